"""What the fleet tells the ledger: what it saw of workers, and what its own probes cost them."""

from __future__ import annotations

import time
from typing import Protocol

from gateway.downstream.exchange import new_request_id
from gateway.fleet.backend import Backend
from gateway.fleet.probes import inference_endpoint
from gateway.ledger.pricing import gpu_cost, token_cost
from gateway.ledger.record import Attempt, CostBasis, Label, Line, Outcome, Reading
from gateway.protocol.usage import NO_USAGE, Usage
from gateway.table import Model

PROBE = "__probe__"  # the tenant of what the gateway itself asks of workers


class Books(Protocol):
    @property
    def source(self) -> str:
        """What this process is called in readings."""
        ...

    def record(self, attempt: Attempt) -> None: ...

    def read(self, reading: Reading) -> None: ...


class _NoBooks:
    source = ""

    def record(self, attempt: Attempt) -> None: ...

    def read(self, reading: Reading) -> None: ...


NO_BOOKS: Books = _NoBooks()


def reading_of(backend: Backend, source: str, at: float, now: float) -> Reading:
    """As the backend stands, `at` in Unix seconds and `now` on the monotonic clock."""
    worker, load = backend.worker, backend.load
    return Reading(
        at,
        source,
        worker.name,
        worker.model,
        worker.version,
        0 if worker.price is not None else worker.hourly,
        backend.up,
        backend.meter.read(now),
        backend.meter.in_flight,
        *load,
    )


def probe_row(
    backend: Backend, model: Model, opened_at: float, duration: float, gpu_ns: int, usage: Usage | None
) -> Attempt:
    """Of a probe's inference; without `usage` nobody knows what the engine did, and it is for an audit to say."""
    worker, used = backend.worker, usage or NO_USAGE
    basis: CostBasis = "none"
    cost = 0
    if worker.price is not None:
        basis, cost = "token_price", token_cost(worker.price, *used)
    elif worker.hourly:
        basis, cost = "gpu_time", gpu_cost(gpu_ns, worker.hourly)
    outcome: Outcome = "failed" if usage is None else "ok"
    milliseconds = int(opened_at * 1000)
    return Attempt(
        new_request_id(milliseconds),
        1,
        0,
        Line(PROBE, "", inference_endpoint(model), worker.model, worker.version, "", "", worker.name, basis),
        Label(backend.base_name),
        milliseconds / 1000,
        opened_at,
        None,
        duration,
        outcome,
        0 if usage is None else 200,
        usage is None,
        True,
        *used,
        gpu_ns,
        cost,
    )


class ProbeAccount:
    """Of one inference under way: it holds its worker's time like any attempt, and leaves one row."""

    def __init__(self, backend: Backend, model: Model, books: Books) -> None:
        self._backend = backend
        self._model = model
        self._books = books
        self._opened = time.monotonic()
        self._opened_at = time.time()
        self._entered = backend.meter.enter(self._opened)

    def close(self, usage: Usage | None, *, worked: bool) -> None:
        """`worked` is whether the engine can have done anything."""
        now = time.monotonic()
        gpu_ns = self._backend.meter.leave(self._entered, now)
        if worked:
            self._books.record(
                probe_row(self._backend, self._model, self._opened_at, now - self._opened, gpu_ns, usage)
            )
