"""A stand-in for an OpenAI-compatible endpoint: a real server on loopback that answers what a test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from workers.evaluation.client import Endpoint

Respond = Callable[[str, Mapping[str, Any]], tuple[int, object]]  # (path, body) -> (status, JSON or raw bytes)


@dataclass
class StandIn:
    endpoint: Endpoint
    asked: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list[tuple[str, Mapping[str, Any]]])


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # connections made at once, before any is accepted


@contextmanager
def stand_in(respond: Respond, model: str = "scribe", context: int | None = 2048) -> Generator[StandIn]:
    """Serves until the block ends. `respond` may raise ConnectionError to cut the connection."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = {"object": "list", "data": [{"id": model, "object": "model", "max_model_len": context}]}
            self._answer(*((200, found) if self.path == "/v1/models" else (404, {})))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            served.asked.append((self.path, body))
            try:
                self._answer(*respond(self.path, body))
            except ConnectionError:
                self.close_connection = True

        def _answer(self, status: int, body: object) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    served = StandIn(Endpoint(f"http://127.0.0.1:{server.server_port}", model))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def chat_answer(text: str, finish: str = "stop", logprobs: object = None) -> dict[str, object]:
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": logprobs}]}


def text_answer(text: str, finish: str = "stop", logprobs: object = None) -> dict[str, object]:
    return {"choices": [{"index": 0, "text": text, "finish_reason": finish, "logprobs": logprobs}]}
