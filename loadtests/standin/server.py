"""The stand-in worker as an object: a listening port, what it has seen, and events to wait for."""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

from loadtests.standin.behaviour import INSTANT, Behaviour
from loadtests.standin.connection import Connection
from loadtests.standin.engine import Engine, Request, Task
from loadtests.standin.engines import SPEECHES
from loadtests.standin.metrics import Metrics
from loadtests.standin.models import Models
from loadtests.standin.seats import Seats

Outcome = Literal["open", "answered", "faulted", "aborted"]


class Recorded(NamedTuple):
    """A request as it arrived. Header names are lower case, the last of a repeated one wins."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True, eq=False)
class Seen:
    """One request from its last byte to its end. "faulted" means it ended as its fault wanted."""

    recorded: Recorded | None
    counts: bool  # generation and pooling requests count as active; /health and the like do not
    outcome: Outcome = "open"
    tokens: int = 0  # sent so far
    finish_reason: str = "stop"


class Standin:
    """`async with Standin() as worker:` listens on 127.0.0.1 until the block ends. `engine` is whose dialect it speaks.

    `behaviour` is what requests get that ask for nothing; assign to it at any time. With `max_running` it generates for
    that many at once, the rest wait in its queue, and `max_queued` refuses those that find too many waiting there.
    """

    def __init__(
        self,
        models: Iterable[str] = ("standin",),
        *,
        engine: str = "vllm",
        adapters: Iterable[str] = (),
        behaviour: Behaviour = INSTANT,
        task: Task = "any",
        context: int = 32768,
        prompt_details: bool = True,
        max_running: int | None = None,
        max_queued: int | None = None,
        keep_alive: float = 5.0,
        host: str = "127.0.0.1",
        port: int = 0,
        record: int = 1000,
    ) -> None:
        catalogue = Models(models, adapters, context=context)
        seats = None if max_running is None else Seats(max_running)
        self.engine = Engine(catalogue, Metrics(), behaviour, task, prompt_details, max_queued, seats)
        self.engine.speech = SPEECHES[engine]
        self.keep_alive = keep_alive  # vLLM closes connections idle for this long; 0 keeps them
        self.connections: set[Connection] = set()
        self.requests: deque[Seen] = deque(maxlen=record)  # the last ones, with outcome and tokens sent
        self.finished = 0
        self.aborted = 0
        self._host, self._port = host, port
        self._watchers: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    # --- what it is doing -------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self.port}"

    @property
    def active(self) -> int:
        """Requests for the engine that are not answered yet."""
        return self.engine.metrics.active

    @property
    def requests_seen(self) -> list[Recorded]:
        """The last POSTs, oldest first; probes such as /health are left out."""
        return [seen.recorded for seen in self.requests if seen.recorded]

    @property
    def behaviour(self) -> Behaviour:
        return self.engine.behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        self.engine.behaviour = behaviour

    @property
    def metrics(self) -> Metrics:
        return self.engine.metrics

    @property
    def models(self) -> Models:
        return self.engine.models

    # --- waiting ----------------------------------------------------------------------------------------------------

    async def wait_for(
        self,
        *,
        active: int | None = None,
        aborted: int | None = None,
        finished: int | None = None,
        within: float = 10.0,
    ) -> None:
        """Until at least that many requests are active, aborted, finished. TimeoutError says what was there instead."""

        def reached() -> bool:
            return (
                (active is None or self.active >= active)
                and (aborted is None or self.aborted >= aborted)
                and (finished is None or self.finished >= finished)
            )

        await self._wait(reached, within)

    async def wait_idle(self, within: float = 10.0) -> None:
        """Until no request is active."""
        await self._wait(lambda: self.active == 0, within)

    async def _wait(self, reached: Callable[[], bool], within: float) -> None:
        if reached():
            return
        watcher = (reached, self.loop.create_future())
        self._watchers.append(watcher)
        try:
            async with asyncio.timeout(within):
                await watcher[1]
        except TimeoutError:
            state = f"active {self.active}, aborted {self.aborted}, finished {self.finished}"
            raise TimeoutError(f"not reached within {within} s; now {state}") from None
        finally:
            self._watchers.remove(watcher)

    def _notice(self) -> None:
        for reached, future in self._watchers:
            if not future.done() and reached():
                future.set_result(None)

    # --- told by connections ----------------------------------------------------------------------------------------

    def begin(self, request: Request, headers: list[tuple[bytes, bytes]]) -> Seen:
        counts = request.method == "POST" and request.path.startswith("/v1/") and "lora" not in request.path
        recorded = None
        if self.requests.maxlen and request.method == "POST":
            fields = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
            recorded = Recorded(request.method, request.path, fields, request.body)
        seen = Seen(recorded, counts)
        if recorded:
            self.requests.append(seen)
        if counts:
            self.engine.metrics.active += 1
            if self._watchers:
                self._notice()
        return seen

    def end(self, seen: Seen, outcome: Outcome) -> None:
        seen.outcome = outcome
        if not seen.counts:
            return
        self.engine.metrics.active -= 1
        if outcome == "aborted":
            self.aborted += 1
            self.engine.metrics.finished["abort"] += 1
        else:
            self.finished += 1
            self.engine.metrics.finished["error" if outcome == "faulted" else seen.finish_reason] += 1
        if self._watchers:
            self._notice()

    # --- life -------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self.loop = asyncio.get_running_loop()
        self._listener = await self.loop.create_server(
            lambda: Connection(self), self._host, self._port, backlog=4096, reuse_address=True
        )
        self.port = int(self._listener.sockets[0].getsockname()[1])
        self._sweeper = self.loop.create_task(self._close_idle_connections())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._sweeper.cancel()
        self._listener.close()
        for connection in list(self.connections):
            connection.transport.abort()
        await self._listener.wait_closed()

    def release(self) -> None:
        """Whatever is being answered goes on without any further delay."""
        for connection in self.connections:
            connection.release()

    def close_idle(self) -> int:
        """Closes every connection that waits for a request, as an engine does after its keep-alive time; how many."""
        idle = [connection for connection in self.connections if connection.seen is None]
        for connection in idle:
            connection.transport.close()
        return len(idle)

    async def _close_idle_connections(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            if not self.keep_alive:
                continue
            oldest = self.loop.time() - self.keep_alive
            for connection in list(self.connections):
                if connection.seen is None and connection.idle_since < oldest:
                    connection.transport.close()


def tune_for_speed() -> None:
    """Fewer garbage collections: a worker under load makes much short-lived garbage and no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
