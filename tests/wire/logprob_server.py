"""An OpenAI-compatible server whose next-token distributions are known: the same one after any text."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

CONTEXT = 512


class LogprobServer:
    """`with LogprobServer([0.5, 0.25, 0.25]) as server:` answers on `server.url`; a token is a character modulo their
    number. `dialect` is how it tells log-probabilities of a prompt: vllm, echo, or none."""

    def __init__(self, probabilities: Sequence[float], dialect: str = "vllm", shift: int = 0) -> None:
        assert math.isclose(sum(probabilities), 1.0)
        self.logprobs = [math.log(probability) for probability in probabilities]
        self.dialect = dialect
        self.shift = shift
        self.asked: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        class Handler(_Handler):
            server_of = self

        self._http = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def tokens(self, text: str) -> list[int]:
        return [(ord(character) + self.shift) % len(self.logprobs) for character in text]

    def told(self, token: int, k: int) -> dict[int, float]:
        """The k most probable tokens and the true one, as vLLM has it."""
        best = sorted(range(len(self.logprobs)), key=lambda one: -self.logprobs[one])[:k]
        return {one: self.logprobs[one] for one in (token, *best)}

    def completion(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        prompt = body["prompt"] if isinstance(body["prompt"], list) else self.tokens(body["prompt"])
        choice: dict[str, Any] = {"index": 0, "text": "x" * body["max_tokens"], "finish_reason": "length"}
        if "prompt_logprobs" in body and self.dialect == "vllm":
            rows = [self.told(token, body["prompt_logprobs"]) for token in prompt[1:]]
            choice["prompt_logprobs"] = [
                None,
                *({str(token): {"logprob": value, "rank": 1} for token, value in row.items()} for row in rows),
            ]
        if body.get("echo") and self.dialect == "echo":
            if body["max_tokens"] != 0:
                return 400, {"error": {"message": "only the prompt"}}
            choice["logprobs"] = {
                "tokens": [f"<{token}>" for token in prompt],
                "token_logprobs": [None, *(self.logprobs[token] for token in prompt[1:])],
                "top_logprobs": [
                    None,
                    *(
                        {f"<{one}>": value for one, value in self.told(token, body["logprobs"]).items()}
                        for token in prompt[1:]
                    ),
                ],
            }
        return 200, {"object": "text_completion", "choices": [choice]}


class _Server(ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: LogprobServer

    def do_GET(self) -> None:
        models = {"data": [{"id": "m", "max_model_len": CONTEXT}]}
        self.answer(200, {"version": "0.32.0"} if self.path == "/version" else models)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server = self.server_of
        server.asked.append({"path": self.path} | body)
        if self.path == "/tokenize":
            self.answer(200, {"tokens": server.tokens(body["prompt"])})
        elif body.get("stream"):
            self.stream(body["max_tokens"])
        else:
            self.answer(*server.completion(body))

    def stream(self, tokens: int) -> None:
        events: list[dict[str, Any]] = [{"choices": [{"text": "x"}]} for _ in range(tokens)]
        events.append({"choices": [], "usage": {"completion_tokens": tokens}})
        data = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        self.send(200, "text/event-stream", data.encode())

    def answer(self, status: int, body: dict[str, Any]) -> None:
        self.send(status, "application/json", json.dumps(body).encode())

    def send(self, status: int, kind: str, data: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass
