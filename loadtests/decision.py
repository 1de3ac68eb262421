"""`python -m loadtests.decision`: what one routing decision costs, in microseconds, and what its state takes of memory.

The router as it runs, over workers made by hand: no socket, no process. The best of several rounds, as in `hotpath`.
The prompt is hashed anew for every decision and its blocks are noted on the worker that is chosen, as at a dispatch.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gateway.compiled import is_compiled
from gateway.routing.account import Place
from gateway.routing.prefix import BLOCK_BYTES, PrefixIndex, Prompt
from gateway.routing.router import Router
from gateway.routing.types import Ask, WorkerView
from gateway.table import Adapter, Limits, Model, Settings, Table, Tenant, Version, Worker

TENANT = Tenant("support", None, Limits(), None, 1.0, "standard")
SENTENCE = "The quick brown fox jumps over the lazy dog and writes it down. "


class Pool(NamedTuple):
    """Workers of one model, each with its part of the adapters."""

    router: Router
    views: Sequence[WorkerView]
    prefixes: PrefixIndex


def pool(workers: int, adapters: int = 0, each: int = 8) -> Pool:
    names = [f"adapter-{number}" for number in range(adapters)]
    model = Model(
        "chat",
        131_072,
        "generate",
        {"fp8": Version("fp8", None, "fp8", 0.99)},
        (),
        {name: Adapter(name, f"/adapters/{name}", None) for name in names},
    )
    index = PrefixIndex()
    held = itertools.cycle(names)
    views = [
        WorkerView(
            worker=Worker(f"w{at}", "http://127.0.0.1:1", "vllm", "chat", "fp8", None, 1, each, None, None, None, None),
            up=True,
            base_name="chat",
            adapters={name: name for name in itertools.islice(held, each)} if names else {},
            prefixes=index.enrol(),
        )
        for at in range(workers)
    ]
    table = Table("r", Path(), Settings(), {}, {}, {"chat": model}, {}, (), {}, {})
    return Pool(Router(table), views, index)


def fields_of(size: int, conversation: int) -> dict[str, Any]:
    """A conversation of about so many bytes; all of them begin with the same system prompt."""
    system = {"role": "system", "content": SENTENCE * min(32, size // 256)}
    text = f"{conversation} " + SENTENCE * 16
    return {"messages": [system, *({"role": "user", "content": text} for _ in range(max(1, size // 1024 - 2)))]}


def decide(of: Pool, fields: dict[str, Any], tokens: int, name: str, now: float) -> Place:
    prompt = Prompt(fields) if tokens * 4 >= BLOCK_BYTES else None
    ask = Ask(name, TENANT, "generate", tokens, 256, usual_output_tokens=256, prompt=prompt)
    resolution = of.router.names.resolve(ask)

    def views(_model: str, _version: str | None) -> Sequence[WorkerView]:
        return of.views

    plan = of.router.plan(ask, resolution, views, [], draw=0.5, now=now)
    return Place(plan.steps[0], tokens, now)


def best_us(act: Callable[[int], object], rounds: int, count: int) -> float:
    """Microseconds of this thread's CPU time, of the best round's mean."""
    best = float("inf")
    for number in range(rounds):
        before = time.thread_time_ns()
        for at in range(count):
            act(number * count + at)
        best = min(best, (time.thread_time_ns() - before) / count / 1000)
    return best


def measure(of: Pool, size: int, rounds: int, count: int, name: str = "chat") -> float:
    conversations = [fields_of(size, number) for number in range(200)]
    clock = itertools.count()
    held: list[Place] = []

    def act(number: int) -> None:
        fields = conversations[number * 7919 % len(conversations)]
        held.append(decide(of, fields, size // 4, name.format(number % 1000), next(clock) / 100))
        if len(held) > 4 * len(of.views):
            held.pop(0).leave(next(clock) / 100, None)

    return best_us(act, rounds, count)


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.decision", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    gc.collect()
    gc.freeze()
    print(f"{'compiled' if is_compiled() else 'plain Python'}; microseconds a decision")
    for workers, size in ((1, 600), (2, 600), (8, 600), (64, 600), (8, 48 << 10), (64, 48 << 10)):
        cost = measure(pool(workers), size, arguments.rounds, 200)
        print(f"{cost:8.1f}  {workers:5} workers, prompt of {size:6} bytes")
    before = resident_mb()
    large = pool(1000, adapters=1000)
    for size, name, what in (
        (600, "chat", "the base model"),
        (48 << 10, "chat", "the base model"),
        (600, "chat:adapter-{}", "one of 1,000 adapters"),
        (48 << 10, "chat:adapter-{}", "one of 1,000 adapters"),
    ):
        cost = measure(large, size, arguments.rounds, 20, name)
        print(f"{cost:8.1f}  1,000 workers, prompt of {size:6} bytes, {what}")
    chain = list(range(500))
    for at, view in enumerate(large.views):
        assert view.prefixes is not None
        for prompt in range(20):
            view.prefixes.insert([block << 40 | at << 20 | prompt for block in chain], 0)
    print(f"{resident_mb() - before:8.0f}  MB for them, with {len(large.prefixes):,} blocks in the index")


if __name__ == "__main__":
    main()
