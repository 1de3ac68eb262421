"""What an engine does under load: how many requests run at once, how long they wait, how many replicas it takes.

Steps mix prompts and answers (chunked prefill), so a batch of B that each write N tokens, whose prompts take P seconds
to read, moves on by a token every t(B) + P·B/N; requests leave, and come, at B per N of those. Prompts queue for the
engine as in M/D/1 (Pollaczek–Khinchine): with ρ the share of time that prompts take, a wait of ρP / 2(1 − ρ).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from workers.capacity.roofline import Engine

TARGET_LOAD = 0.8  # of what a replica can do: requests do not come evenly
STEPS = 32  # of bisection


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked. Without a rate, what one replica can do is the answer."""

    prompt_tokens: int
    output_tokens: int
    requests_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What must hold on average; None: anything."""

    ttft_seconds: float | None = None
    token_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One replica with `batch` requests running on average."""

    batch: float
    requests_per_second: float
    ttft_seconds: float
    token_seconds: float

    def misses(self, bounds: Bounds) -> bool:
        return (bounds.ttft_seconds is not None and self.ttft_seconds > bounds.ttft_seconds) or (
            bounds.token_seconds is not None and self.token_seconds > bounds.token_seconds
        )


@dataclass(frozen=True, slots=True)
class Service:
    """`replicas` of an engine under a load of `requests_per_second` in all: each of them as it runs then, with one
    request alone, and with as many as the bounds and its memory let it take."""

    replicas: int
    requests_per_second: float
    now: Operation
    alone: Operation
    most: Operation


def operate(engine: Engine, load: Load, batch: float) -> Operation:
    return _operate(engine, load, batch, engine.prefill_seconds(load.prompt_tokens))


def serve(engine: Engine, load: Load, bounds: Bounds, most_requests: int) -> Service | None:
    """As many replicas as it takes, or None where even a request alone misses the bounds."""
    prefill = engine.prefill_seconds(load.prompt_tokens)

    def at(batch: float) -> Operation:
        return _operate(engine, load, batch, prefill)

    alone = at(0.0)
    if alone.misses(bounds):
        return None
    most = at(_largest(most_requests, lambda batch: not at(batch).misses(bounds)))
    replicas = 1
    rate = TARGET_LOAD * most.requests_per_second
    if load.requests_per_second is not None:
        replicas = max(1, math.ceil(load.requests_per_second / rate - 1e-9))
        rate = load.requests_per_second / replicas
    batch = _largest(most.batch, lambda batch: at(batch).requests_per_second <= rate)
    return Service(replicas, rate * replicas, at(batch), alone, most)


def _operate(engine: Engine, load: Load, batch: float, prefill: float) -> Operation:
    decode = engine.decode_seconds(max(1.0, batch), load.prompt_tokens + load.output_tokens / 2)
    token = decode + prefill * batch / load.output_tokens
    rate = batch / (load.output_tokens * token)
    busy = min(rate * prefill, 0.999)
    return Operation(batch, rate, prefill + decode + busy * prefill / (2 * (1 - busy)), token)


def _largest(limit: float, holds: Callable[[float], bool]) -> float:
    """The largest batch up to `limit` for which it holds; it does for 0, and for all below one for which it does."""
    if holds(limit):
        return limit
    low, high = 0.0, float(limit)
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
