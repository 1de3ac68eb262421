"""Clients that keep their connections and go on asking, as those of a real service do, and count what gets lost."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
from collections.abc import Sequence
from typing import Any, Self

from tests.gateway_process import KEY

PATIENCE = 60.0
HEADERS = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
MESSAGES = [{"role": "user", "content": "hi"}]
DOCUMENT: dict[str, Any] = {"model": "tiny", "messages": MESSAGES}
STREAM: dict[str, Any] = {**DOCUMENT, "stream": True, "standin": {"tokens": 20, "pace": 0.005}}
CLOSED = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


class Asker:
    """One client on one kept connection. It sends again what a *reused* connection closed on without a byte of answer,
    or what no connection could be made for; nothing else."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = itertools.cycle(ports)
        self._number = len(ports)
        self._connection: http.client.HTTPConnection | None = None
        self.answered = 0
        self.repeated = 0
        self.lost: list[str] = []

    def ask(self, body: dict[str, Any]) -> None:
        kept = self._connection
        if kept is not None and kept.sock is not None:
            try:
                self._exchange(kept, body)
                return
            except CLOSED:
                self.repeated += 1
        for _ in range(self._number):
            connection = http.client.HTTPConnection("127.0.0.1", next(self._ports), timeout=PATIENCE)
            try:
                connection.connect()
            except ConnectionRefusedError:
                continue
            self._connection = connection
            try:
                self._exchange(connection, body)
            except CLOSED as error:
                self.lost.append(f"a new connection: {error!r}")
            return
        self.lost.append("nobody listens")

    def _exchange(self, connection: http.client.HTTPConnection, body: dict[str, Any]) -> None:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), HEADERS)
        answer = connection.getresponse()
        try:
            said = answer.read()
        except (http.client.HTTPException, OSError) as error:
            self.lost.append(f"in the middle of an answer: {error!r}")
            connection.close()
            return
        if answer.status != 200 or (body.get("stream") and not said.endswith(b"data: [DONE]\n\n")):
            self.lost.append(f"{answer.status}: {said[-300:]!r}")
        else:
            self.answered += 1

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


class Load:
    """`with Load(ports) as load:` has askers at work until the block ends, every other request a stream."""

    def __init__(self, ports: Sequence[int], askers: int = 6, pause: float = 0.005) -> None:
        self.askers = [
            Asker([*ports[number % len(ports) :], *ports[: number % len(ports)]]) for number in range(askers)
        ]
        self._pause = pause
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(asker,)) for asker in self.askers]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _work(self, asker: Asker) -> None:
        for number in itertools.count():
            asker.ask(STREAM if number % 2 else DOCUMENT)
            if self._over.wait(self._pause):
                asker.close()
                return

    @property
    def answered(self) -> int:
        return sum(asker.answered for asker in self.askers)

    @property
    def repeated(self) -> int:
        return sum(asker.repeated for asker in self.askers)

    @property
    def lost(self) -> list[str]:
        return [what for asker in self.askers for what in asker.lost]
