"""Clients that go on asking whatever happens to those they ask."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
from contextlib import suppress

from tests.eventually import eventually
from tests.gateway_process import KEY

HEADERS = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
CLIENTS = 6
PATIENCE = 30.0
PAUSE = 0.01  # seconds before a client that was let down asks again
_MESSAGES = [{"role": "user", "content": "hi"}]
BODIES = [
    {"model": "tiny", "messages": _MESSAGES, "standin": {"tokens": 5}},
    {"model": "tiny", "messages": _MESSAGES, "stream": True, "standin": {"tokens": 150, "pace": 0.001}},
    {"model": "tiny", "messages": _MESSAGES, "standin": {"tokens": 20, "pace": 0.004}},
]


class Clients:
    """`with Clients() as clients:`; they begin when they know whom to ask."""

    def __init__(self) -> None:
        self.answered = 0
        self.lost = 0  # answers that did not come, or not whole
        self._port = 0
        self._known = threading.Event()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(number,)) for number in range(CLIENTS)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._known.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def turn_to(self, port: int) -> None:
        self._port = port
        self._known.set()

    def wait_for_more(self, count: int) -> None:
        until = self.answered + count
        eventually(lambda: self.answered >= until or None, f"{count} more answers, {self.lost} lost")

    def _work(self, first: int) -> None:
        self._known.wait(PATIENCE)
        for number in itertools.count(first):
            if self._over.is_set():
                return
            with suppress(OSError, http.client.HTTPException):
                if self._ask(BODIES[number % len(BODIES)]):
                    self.answered += 1
                    continue
            self.lost += 1
            self._over.wait(PAUSE)

    def _ask(self, body: dict[str, object]) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(body), HEADERS)
            answer = connection.getresponse()
            said = answer.read()
            return answer.status == 200 and (not body.get("stream") or said.endswith(b"data: [DONE]\n\n"))
        finally:
            connection.close()
