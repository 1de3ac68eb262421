"""What the fleet tells the ledger: what it saw of workers, and what its own probes cost them."""

from __future__ import annotations

import time
from typing import Protocol

from gateway.downstream.ids import new_request_id
from gateway.fleet.backend import Backend
from gateway.fleet.probes import inference_endpoint
from gateway.ledger.audits import LAST
from gateway.ledger.pricing import gpu_cost, token_cost
from gateway.ledger.record import Attempt, CostBasis, Label, Line, Reading
from gateway.protocol.usage import NO_USAGE, Usage
from gateway.table import Model

PROBE = "__probe__"  # the tenant of what the gateway itself asks of workers


class Books(Protocol):
    @property
    def source(self) -> str:
        """What this process is called in readings."""
        ...

    def intend(self, attempt: Attempt) -> None: ...

    def record(self, attempt: Attempt) -> None: ...

    def read(self, reading: Reading) -> None: ...


class _NoBooks:
    source = ""

    def intend(self, attempt: Attempt) -> None: ...

    def record(self, attempt: Attempt) -> None: ...

    def read(self, reading: Reading) -> None: ...


NO_BOOKS: Books = _NoBooks()


def reading_of(backend: Backend, source: str, at: float, now: float, *, is_last: bool = False) -> Reading:
    """As the backend stands, `at` in Unix seconds and `now` on the monotonic clock. After the last one, which nothing
    may be under way at, `source` asks the worker of nothing any more."""
    worker, load = backend.worker, backend.load
    return Reading(
        at,
        source,
        worker.name,
        worker.model,
        worker.version,
        0 if worker.price is not None else worker.hourly,
        backend.up,
        LAST if is_last else backend.meter.read(now),
        backend.meter.in_flight,
        load.running,
        load.waiting,
        load.kv_usage,
        load.prompt_tokens,
        load.output_tokens,
        load.started,
    )


class ProbeAccount:
    """Of one inference under way: it holds its worker's time like any attempt, and leaves one row."""

    def __init__(self, backend: Backend, model: Model, books: Books) -> None:
        worker = backend.worker
        basis: CostBasis = "token_price" if worker.price is not None else "gpu_time" if worker.hourly else "none"
        endpoint = inference_endpoint(model)
        opened_at = time.time()
        milliseconds = int(opened_at * 1000)
        self._backend = backend
        self._books = books
        self._opened = time.monotonic()
        self._intent = Attempt(
            new_request_id(milliseconds),
            1,
            0,
            Line(PROBE, "", endpoint, worker.model, worker.version, "", "", worker.name, basis),
            Label(backend.base_name),
            milliseconds / 1000,
            opened_at,
            None,
            0.0,
            "crashed",
            0,
            True,
            True,
            *NO_USAGE,
            0,
            0,
        )
        books.intend(self._intent)
        self._entered = backend.meter.enter(self._opened)

    def close(self, usage: Usage | None, *, worked: bool) -> None:
        """Without `usage` nobody knows what the engine did, if it `worked` at all: that is for an audit to say."""
        now = time.monotonic()
        worker, basis = self._backend.worker, self._intent.line.cost_basis
        gpu_ns = self._backend.meter.leave(self._entered, now)
        cost = 0
        if worked and basis == "token_price" and worker.price is not None:
            cost = token_cost(worker.price, *(usage or NO_USAGE))
        elif worked and basis == "gpu_time":
            cost = gpu_cost(gpu_ns, worker.hourly)
        self._books.record(
            self._intent._replace(
                duration_seconds=now - self._opened,
                outcome="ok" if usage is not None else "failed",
                status=200 if usage is not None else 0,
                estimated=worked and usage is None,
                prompt_tokens=0 if usage is None else usage.prompt_tokens,
                cached_tokens=0 if usage is None else usage.cached_tokens,
                output_tokens=0 if usage is None else usage.output_tokens,
                gpu_ns=gpu_ns if worked else 0,
                cost_nanousd=cost,
            )
        )
