"""Stands in for an engine's Python: `fake_engine.py -m vllm… --served-model-name NAME --port P …`.

Answers /health, /v1/models and completions like vLLM, and misbehaves as its environment says:

    FAKE_EXIT=N        says why on standard error and exits with status N at once
    FAKE_SILENT=1      runs but never listens
    FAKE_STUBBORN=1    ignores SIGTERM
    FAKE_SLOW=N        ends N seconds after SIGTERM
    FAKE_OFFSPRING=1   leaves two processes that escape with setsid and a double fork, and ignore SIGTERM
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Engine(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served = ""

    def do_GET(self) -> None:
        answers: dict[str, dict[str, object]] = {
            "/health": {},
            "/v1/models": {"object": "list", "data": [{"id": self.served, "object": "model", "max_model_len": 512}]},
        }
        self.answer(200 if self.path in answers else 404, answers.get(self.path, {}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        print(json.dumps(body), flush=True)
        known = body.get("model") == self.served and self.path in ("/v1/completions", "/v1/embeddings")
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        completion = {"id": "c", "object": "text_completion", "model": self.served, "usage": usage}
        self.answer(200 if known else 404, completion | {"choices": [{"index": 0, "text": "fake"}]})

    def answer(self, status: int, body: dict[str, object]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


def escape() -> None:
    """Leaves two processes in sessions of their own, with no parent that knows them."""
    for _ in range(2):
        if os.fork() == 0:
            os.setsid()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            if os.fork() == 0:
                while True:
                    signal.pause()
            os._exit(0)
    for _ in range(2):
        os.wait()


def main() -> None:
    options = dict(zip(sys.argv, sys.argv[1:], strict=False))
    if "FAKE_EXIT" in os.environ:
        print("RuntimeError: the fake engine has no weights", file=sys.stderr)
        sys.exit(int(os.environ["FAKE_EXIT"]))
    if "FAKE_STUBBORN" in os.environ:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "FAKE_SLOW" in os.environ:
        ends = threading.Timer(float(os.environ["FAKE_SLOW"]), os._exit, (0,))
        signal.signal(signal.SIGTERM, lambda *_: ends.start())
    if "FAKE_OFFSPRING" in os.environ:
        escape()
    print("fake engine: up", flush=True)
    if "FAKE_SILENT" in os.environ:
        while True:
            signal.pause()
    Engine.served = options["--served-model-name"]
    ThreadingHTTPServer(("127.0.0.1", int(options["--port"])), Engine).serve_forever()


if __name__ == "__main__":
    main()
