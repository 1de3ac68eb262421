"""Traffic of very different tenants, by family. All of it comes from a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import log
from pathlib import Path
from random import Random
from typing import NamedTuple

from loadtests.attribution.engine import Engine, Request
from loadtests.trace import Call, Scale, read, speed_for


class Shape(NamedTuple):
    """What one tenant sends. Tokens are medians of log-normal distributions."""

    name: str
    rate: float  # requests a second
    prompt: int
    output: int
    prefix: int = 0  # tokens that its prompts have in common
    prefixes: int = 1  # how many such beginnings it has
    burst: float = 1.0  # requests that come together, on average
    spread: float = 0.5  # sigma of both distributions
    duty: float = 1.0  # part of the time in which it comes at all, at a rate accordingly higher
    period: float = 100.0  # seconds between two such times


LONG_PROMPTS = Shape("long prompts", 0.15, 8_000, 120)
LONG_ANSWERS = Shape("long answers", 0.30, 150, 800)
SHARED_PREFIX = Shape("shared prefix", 1.0, 200, 130, prefix=4_000, prefixes=3)
SMALL_CHATS = Shape("small chats", 1.5, 200, 100)
CLASSIFIER = Shape("classifier", 1.0, 600, 1)
SUMMARIES = Shape("summaries", 0.2, 3_000, 300)
AGENT = Shape("agent", 0.3, 500, 200, prefix=2_500, burst=4)
BATCH = Shape("batch", 0.25, 1_000, 400, burst=12)

MIXED = (LONG_PROMPTS, LONG_ANSWERS, SHARED_PREFIX, SMALL_CHATS, CLASSIFIER, SUMMARIES, AGENT, BATCH)
PLAIN = (LONG_PROMPTS, LONG_ANSWERS, SHARED_PREFIX, SMALL_CHATS) * 2


MOST_TOKENS = 16_000  # of a prompt


class Case(NamedTuple):
    name: str
    engine: Engine
    requests: list[Request]
    tenants: int


def requests_of(shapes: Sequence[Shape], seconds: float, load: float, dice: Random) -> list[Request]:
    found: list[Request] = []
    for tenant, shape in enumerate(shapes):
        for at in _arrivals(shape, seconds, load, dice):
            own = min(MOST_TOKENS, max(1, round(dice.lognormvariate(log(shape.prompt), shape.spread))))
            output = max(1, round(dice.lognormvariate(log(shape.output), shape.spread))) if shape.output > 1 else 1
            prefix = f"{tenant}.{dice.randrange(shape.prefixes)}" if shape.prefix else ""
            found.append(Request(at, tenant, shape.prefix + own, output, prefix, shape.prefix))
    return sorted(found)


def _arrivals(shape: Shape, seconds: float, load: float, dice: Random) -> Iterator[float]:
    rate = shape.rate * load / shape.burst / shape.duty
    offset = dice.random() * shape.period
    at = 0.0
    while (at := at + dice.expovariate(rate)) < seconds:
        if (at + offset) % shape.period < shape.duty * shape.period:
            count = 1 + (int(dice.expovariate(1 / (shape.burst - 1))) if shape.burst > 1 else 0)
            for _ in range(count):
                yield at


LARGE = Engine()
SMALL_CACHE = Engine(kv=30_000)
FEW_SLOTS = Engine(slots=24)
OTHER = Engine(fixed=2e-2, new=1e-4, attention=2e-9, out=2e-4, context=1e-7, budget=8192)  # slower, another balance


def _case(name: str, engine: Engine, shapes: Sequence[Shape], load: float, seconds: float) -> Callable[[int], Case]:
    return lambda seed: Case(name, engine, requests_of(shapes, seconds, load, Random(seed)), len(shapes))


def _duty(shapes: Sequence[Shape]) -> list[Shape]:
    return [shape._replace(duty=0.3, period=120 + 17 * i) for i, shape in enumerate(shapes)]


FAMILIES: dict[str, Callable[[int], Case]] = {
    "idle mostly": _case("idle mostly", LARGE, PLAIN, 0.03, 7200),
    "half busy": _case("half busy", LARGE, MIXED, 0.1, 3600),
    "busy": _case("busy", LARGE, PLAIN, 0.3, 2400),
    "busy, mixed": _case("busy, mixed", LARGE, MIXED, 0.4, 2400),
    "full": _case("full", LARGE, PLAIN, 1.0, 900),
    "full, mixed": _case("full, mixed", LARGE, MIXED, 1.2, 900),
    "very full": _case("very full", LARGE, PLAIN, 2.0, 600),
    "on and off": _case("on and off", LARGE, _duty(MIXED), 0.5, 2400),
    "small cache": _case("small cache", SMALL_CACHE, MIXED, 0.8, 2400),
    "few slots": _case("few slots", FEW_SLOTS, MIXED, 1.0, 2400),
    "other engine": _case("other engine", OTHER, MIXED, 0.2, 5400),
}


RECORDED = 3_000  # requests of a recorded trace
RECORDED_RATE = 2.0  # a second
_TRACES = ("azure_llm", "mooncake")


def recorded(directory: Path | None) -> dict[str, Callable[[int], Case]]:
    """Recorded traffic, dealt to six tenants by the lengths of prompts and answers; none without a directory."""
    if directory is None:
        return {}
    return {path.stem: _recorded(path) for path in sorted(directory.iterdir()) if path.name.startswith(_TRACES)}


def _recorded(path: Path) -> Callable[[int], Case]:
    def make(seed: int) -> Case:
        calls = read(path)
        first = Random(seed).randrange(max(1, len(calls) - RECORDED))
        some = calls[first : first + RECORDED]
        some = [replace(call, at=call.at - some[0].at) for call in some]
        some = Scale(speed=speed_for(RECORDED_RATE, some), max_input=MOST_TOKENS).apply(some)
        prompts, answers = (
            sorted(lengths) for lengths in zip(*((c.input_tokens, c.output_tokens) for c in some), strict=True)
        )
        third, half = len(some) // 3, len(some) // 2
        bounds = prompts[third], prompts[2 * third], answers[half]
        return Case(path.stem, LARGE, sorted(_request(call, *bounds) for call in some), 6)

    return make


def _request(call: Call, short: int, medium: int, brief: int) -> Request:
    """Whose it is: one of three kinds of prompt, one of two of answer. Its first block may be in the prefix cache."""
    tenant = 2 * ((call.input_tokens > short) + (call.input_tokens > medium)) + (call.output_tokens > brief)
    shared = min(call.block, call.input_tokens - 1) if len(call.blocks) > 1 else 0
    prefix = f"{tenant}.{next(iter(call.blocks), 0)}" if shared else ""
    return Request(call.at, tenant, call.input_tokens, call.output_tokens, prefix, shared)
