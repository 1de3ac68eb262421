"""What the clients of a soak ask for: every API, streamed and whole, with faults, and clients that leave."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NamedTuple

import orjson

from loadtests.client import Connection, Exchange, Target, connect

CONNECTIONS = 1_000  # at once, at most: who comes then is turned away here and counted
ANSWER_SECONDS = 60.0
LEAVES_AFTER_SECONDS = 0.3  # if the answer has not begun
ROUGH_SHARE = 0.2
_MESSAGES = [{"role": "user", "content": "What does a gateway in front of inference workers do, and for whom?"}]

Body = dict[str, Any]


class Ask(NamedTuple):
    path: str
    body: Body
    leaves: bool = False  # as soon as the answer has begun, or after a moment when it never does


def calm(dice: random.Random) -> Ask:
    """A request that some worker finishes, whatever it takes."""
    tokens = dice.randint(1, 40)
    wish: Body = {"tokens": tokens}
    match dice.randrange(12):
        case 0:
            wish |= {"fault": "refuse", "status": 503} if dice.random() < 0.1 else {}
        case 1:
            wish |= {"fault": "close_after"}
        case 2:
            wish |= {"header_delay": dice.random() * 0.05}
        case 3:
            wish |= {"first_token_delay": dice.random() * 0.05, "keep_alive": 0.01}
        case 4 | 5 | 6:
            wish |= {"pace": 0.002}
        case _:
            pass
    body: Body = {"model": "calm", "stream": dice.random() < 0.5, "standin": wish}
    match dice.randrange(8):
        case 0:
            return Ask("/v1/completions", body | {"prompt": "import os", "max_tokens": 64})
        case 1:
            return Ask("/v1/responses", body | {"input": "hi"})
        case 2:
            return Ask("/v1/messages", body | {"messages": _MESSAGES, "max_tokens": 64})
        case 3:
            return Ask("/v1/score", {"model": "calm", "text_1": "a", "text_2": str(dice.randrange(500))})
        case 4:
            return Ask("/v1/chat/completions", {"model": "nobody", "messages": _MESSAGES})
        case _:
            usage = {"stream_options": {"include_usage": True}} if body["stream"] and dice.random() < 0.5 else {}
            return Ask("/v1/chat/completions", body | {"messages": _MESSAGES} | usage)


def rough(dice: random.Random) -> Ask:
    """A request that goes wrong at one end or the other."""
    path, said = dice.choice(
        [
            ("/v1/chat/completions", {"messages": _MESSAGES}),
            ("/v1/completions", {"prompt": "hi", "max_tokens": 100}),
            ("/v1/messages", {"messages": _MESSAGES, "max_tokens": 100}),
        ]
    )
    stream = dice.random() < 0.7
    if dice.random() < 0.4:
        endless: list[Body] = [{"tokens": 100, "pace": 0.2}] if stream else []
        wish = dice.choice([*endless, {"fault": "silent"}, {"header_delay": 600}, {"fault": "stuck", "after": 3}])
        return Ask(path, {"model": "rough", "stream": stream, "standin": wish, **said}, leaves=True)
    faults = ["die", "reset", "garbage", "hang_up", "refuse", "short_body"]
    faults += ["error_frame", "bad_chunk", "half_close"] if stream else []
    wish = {"tokens": 20, "fault": dice.choice(faults), "after": dice.choice([0, 1, 5]), "status": 500}
    return Ask(path, {"model": "rough", "stream": stream, "standin": wish, **said})


@dataclass(slots=True)
class Seen:
    """What the clients know."""

    asked: int = 0
    statuses: Counter[int] = field(default_factory=Counter[int])  # of whole answers
    left: int = 0
    turned_away: int = 0
    faults: Counter[str] = field(default_factory=Counter[str])  # what no client may see: no HTTP, or no answer
    latencies: list[float] = field(default_factory=list[float])


class Clients:
    """Sends requests on kept connections; `idle` when none is under way."""

    def __init__(self, target: Target, dice: random.Random) -> None:
        self.seen = Seen()
        self._target = target
        self._dice = dice
        self._idle: list[Connection] = []
        self._under_way = 0
        self._waiting: dict[Exchange, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def under_way(self) -> int:
        return self._under_way

    def ask(self, intended: float, rough_share: float = ROUGH_SHARE, then: Callable[[], None] | None = None) -> None:
        """One more request, meant to have started at `intended`."""
        if self._under_way >= CONNECTIONS:
            self.seen.turned_away += 1
            return
        self._under_way += 1
        self.seen.asked += 1
        what = rough(self._dice) if self._dice.random() < rough_share else calm(self._dice)
        task = asyncio.get_running_loop().create_task(self._exchange(what, intended))
        self._tasks.add(task)

        def over(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._under_way -= 1
            if not task.cancelled() and (error := task.exception()) is not None:
                self.seen.faults[repr(error)] += 1
            if then is not None:
                then()

        task.add_done_callback(over)

    def close(self) -> None:
        for connection in self._idle:
            connection.abort()
        for task in self._tasks:
            task.cancel()

    async def _exchange(self, what: Ask, intended: float) -> None:
        begun, over = asyncio.Event(), asyncio.Event()
        exchange = Exchange(intended, began=begun.set)
        connection = await self._connection()
        self._waiting[exchange] = over
        connection.start(exchange, self._written(what))
        if what.leaves:
            await _first_of(begun, LEAVES_AFTER_SECONDS)
            if not over.is_set():
                connection.abort()
                del self._waiting[exchange]
                self.seen.left += 1
                return
        async with asyncio.timeout(ANSWER_SECONDS):
            await over.wait()
        if exchange.status:
            self.seen.statuses[exchange.status] += 1
            self.seen.latencies.append(perf_counter() - intended)
        else:
            self.seen.faults[exchange.error or "no answer"] += 1
        if connection.is_open:
            self._idle.append(connection)

    def _finished(self, connection: Connection, exchange: Exchange) -> None:
        self._waiting.pop(exchange).set()

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        return await connect(self._target, self._finished)

    def _written(self, what: Ask) -> bytes:
        payload = orjson.dumps(what.body)
        lines = [f"POST {what.path} HTTP/1.1", f"host: {self._target.host}:{self._target.port}"]
        lines += [f"{name}: {value}" for name, value in self._target.headers]
        lines += ["content-type: application/json", f"content-length: {len(payload)}", "", ""]
        return "\r\n".join(lines).encode() + payload


async def _first_of(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
