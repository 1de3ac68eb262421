"""What comes to the gateways: a trace's calls, or conversations made up from a seed, as requests of somebody."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import log
from random import Random
from statistics import median
from typing import NamedTuple

from loadtests.trace import BLOCK, Call


class Request(NamedTuple):
    """`blocks` of 512 tokens each, the last one maybe cut, name the prompt: equal numbers are equal text after an equal
    beginning; none where nothing is known of it. `at` is in seconds."""

    number: int
    at: float
    prompt: int
    output: int
    blocks: tuple[int, ...]
    tenant: str = "t0"
    adapter: str = ""


class Mix(NamedTuple):
    """How calls become requests. Conversations have tenants and adapters, the n-th 1/n as often as the first."""

    spread: float | None = None  # seconds over which calls of one moment are spread; None: as coarse as the clock was
    tenants: int = 1
    adapters: int = 0


def coarseness(calls: Sequence[Call]) -> float:
    """Seconds between two ticks of the clock that a trace was written by, where calls came faster than it; else 0."""
    moments = sorted({call.at for call in calls})
    if len(calls) < 2 * len(moments) or len(moments) < 2:
        return 0.0
    return median(later - earlier for earlier, later in pairwise(moments))


def requests_of(calls: Sequence[Call], mix: Mix, seed: int) -> list[Request]:
    """In order of time. Another seed gives other moments within the clock's ticks, and deals otherwise."""
    dice = Random(f"traffic {seed}")
    spread = coarseness(calls) if mix.spread is None else mix.spread
    timed = sorted(((call.at + dice.random() * spread, place) for place, call in enumerate(calls)))
    whose = _Deal(calls, mix, dice)
    made: list[Request] = []
    for number, (at, place) in enumerate(timed):
        call = calls[place]
        tenant, adapter = whose.of(call)
        blocks = call.blocks if call.block == BLOCK else ()
        if mix.tenants > 1 or adapter:  # caches are salted by tenant, and an adapter's blocks are its own
            blocks = tuple(hash((tenant, adapter, block)) for block in blocks)
        named = f"a{adapter - 1}" if adapter else ""
        made.append(Request(number, at, call.input_tokens, call.output_tokens, blocks, f"t{tenant}", named))
    return made


class _Deal:
    """A conversation is known by its first block that is not everybody's."""

    def __init__(self, calls: Sequence[Call], mix: Mix, dice: Random) -> None:
        self._mix = mix
        self._dice = dice
        self._known: dict[int, tuple[int, int]] = {}
        firsts = Counter(call.blocks[0] for call in calls if call.blocks)
        self._common = {block for block, count in firsts.items() if count > max(10, len(calls) // 20)}

    def of(self, call: Call) -> tuple[int, int]:
        if self._mix.tenants <= 1 and not self._mix.adapters:
            return 0, 0
        mark = next((block for block in call.blocks if block not in self._common), -1)
        found = self._known.get(mark)
        if found is None:
            tenant = _rank(self._mix.tenants, self._dice)
            # Some traffic is the base model's.
            found = self._known[mark] = (tenant, _rank(self._mix.adapters + 1, self._dice) if self._mix.adapters else 0)
        return found


def _rank(count: int, dice: Random) -> int:
    """0 to count - 1, by Zipf's law."""
    if count <= 1:
        return 0
    return dice.choices(range(count), weights=[1 / (n + 1) for n in range(count)])[0]


def conversations(
    requests: int, seed: int, *, rate: float = 2.4, turns: float = 3.0, prompt: int = 4_000, output: int = 300
) -> list[Call]:
    """Made-up traffic of many turns: each turn's prompt is all that was said before and something new. `rate` is
    requests a second in all, `turns` how many a conversation has on average, `prompt` the median tokens a turn adds."""
    dice = Random(f"conversations {seed}")
    calls: list[Call] = []
    times: list[float] = []  # of calls, in order
    fresh = 1
    begin = 0.0
    while len(times) < requests or times[requests - 1] > begin:  # until no later conversation has one of the first
        begin += dice.expovariate(rate / turns)
        at, said = begin, 0
        kept: tuple[int, ...] = (0,)  # the beginning that all have in common
        while True:
            said += max(BLOCK, round(dice.lognormvariate(log(prompt), 1.0)))
            new = range(fresh, fresh + -(-said // BLOCK) - len(kept))
            fresh += len(new)
            blocks = (*kept, *new)
            kept = blocks[: said // BLOCK]
            answer = max(1, round(dice.lognormvariate(log(output), 0.7)))
            calls.append(Call(at, said, answer, blocks))
            insort(times, at)
            if dice.random() < 1 / turns:
                break
            said += answer
            at += dice.expovariate(1 / 40.0)
    calls.sort(key=lambda call: call.at)
    return calls[:requests]
