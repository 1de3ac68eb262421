"""An engine that does as it is told, on a real socket, and the tables and fleets to point at it."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gateway.engines import DIALECTS
from gateway.fleet.backend import Backend
from gateway.fleet.registry import Fleet
from gateway.ledger.pricing import Meter
from gateway.table import Adapter, Model, Probe, Settings, Table, Version, Worker
from gateway.upstream.pool import Pool

TLS_HANDSHAKE = b"\x16"
HANG_UP = 0  # a status that is none: the connection closes without an answer


class Answer(NamedTuple):
    status: int = 200
    body: bytes = b"{}"


class Seen(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: Any


def models(*cards: str | dict[str, object]) -> Answer:
    data = [{"id": card, "object": "model"} if isinstance(card, str) else card for card in cards]
    return Answer(body=json.dumps({"object": "list", "data": data}).encode())


@dataclass
class Engine:
    """Answers each path by what stands in `answers`; what stands there more than once is used up in order."""

    answers: dict[str, list[Answer]] = field(default_factory=dict[str, list[Answer]])
    seen: list[Seen] = field(default_factory=list[Seen])
    gates: dict[str, asyncio.Event] = field(default_factory=dict[str, asyncio.Event])  # a path waits for its gate
    arrived: defaultdict[str, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))
    concurrent: int = 0
    most_concurrent: int = 0
    port: int = 0
    _server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def count(self, path: str) -> int:
        return sum(1 for seen in self.seen if seen.path == path)

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            for gate in self.gates.values():
                gate.set()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.concurrent += 1
        self.most_concurrent = max(self.most_concurrent, self.concurrent)
        try:
            first = await reader.readexactly(1)
            if first == TLS_HANDSHAKE:
                writer.write(b"HTTP/1.1 400 This is plain HTTP\r\n\r\n")
                return
            head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            request, *lines = head.strip().split("\r\n")
            method, path, _ = request.split(" ")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.seen.append(Seen(method, path, headers, json.loads(body) if body else None))
            self.arrived[path].set()
            if path in self.gates:
                await self.gates[path].wait()
            answers = self.answers.get(path, [Answer(404, b'{"detail":"Not Found"}')])
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if answer.status == HANG_UP:
                return
            length = len(answer.body)
            writer.write(
                f"HTTP/1.1 {answer.status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n".encode()
            )
            writer.write(answer.body)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the prober has given up
        finally:
            self.concurrent -= 1
            writer.close()


class WatchedPool(Pool):
    """A pool that tells when it was closed."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.was_closed = asyncio.Event()

    async def close(self) -> None:
        await super().close()
        self.was_closed.set()


def healthy(*cards: str | dict[str, object]) -> dict[str, list[Answer]]:
    return {
        "/health": [Answer()],
        "/metrics": [Answer(body=b"")],
        "/v1/models": [models(*(cards or ("chat",)))],
        "/v1/completions": [Answer()],
        "/v1/embeddings": [Answer()],
    }


def worker(name: str = "w", url: str = "http://127.0.0.1:1", **other: Any) -> Worker:
    terms: dict[str, Any] = {
        "engine": "vllm",
        "model": "chat",
        "version": "fp8",
        "gpu": None,
        "gpus": 1,
        "max_loras": 0,
        "price": None,
        "api_key": None,
        "launch": None,
        "serves_as": None,
    }
    return Worker(name=name, url=url, **(terms | other))


def table(*workers: Worker, every: float = 0.12, wait: float = 5.0, task: Any = "generate") -> Table:
    names = {name: Version(name, None, "none", None) for name in ("fp8", "int4")}
    adapters = {"support": Adapter("support", "adapters/support-v3", None)}
    return Table(
        revision="r1",
        directory=Path("router_config"),
        settings=Settings(probe=Probe(every=every, wait=wait)),
        gpus={},
        workers={w.name: w for w in workers},
        models={name: Model(name, 8192, task, names, (), adapters) for name in ("chat", "big")},
        aliases={},
        routes=(),
        tenants={},
        keys={},
    )


def make_backend(of: Worker) -> Backend:
    return Backend(worker=of, pool=WatchedPool(of.url), dialect=DIALECTS[of.engine], meter=Meter())


@asynccontextmanager
async def running_engine(answers: dict[str, list[Answer]] | None = None) -> AsyncIterator[Engine]:
    engine = Engine(answers if answers is not None else healthy())
    await engine.listen()
    try:
        yield engine
    finally:
        await engine.close()


@asynccontextmanager
async def running_fleet(of: Table) -> AsyncIterator[Fleet]:
    fleet = Fleet(make_backend)
    fleet.apply(of)
    await fleet.start()
    try:
        yield fleet
    finally:
        await fleet.stop()


@dataclass(frozen=True)
class Kit:
    """What the tests here are made of."""

    worker: Callable[..., Worker] = worker
    table: Callable[..., Table] = table
    engine: Callable[..., AbstractAsyncContextManager[Engine]] = running_engine
    fleet: Callable[[Table], AbstractAsyncContextManager[Fleet]] = running_fleet
    make_backend: Callable[[Worker], Backend] = make_backend
    unwatched: Callable[[], Fleet] = lambda: Fleet(make_backend)
    healthy: Callable[..., dict[str, list[Answer]]] = healthy
    models: Callable[..., Answer] = models
    answer: type[Answer] = Answer


@pytest.fixture
def kit() -> Kit:
    return Kit()
