"""What visits were to a worker within a window: one walk over their beginnings and ends.

The prompt of a visit is computed between its opening and its first token, its other tokens come evenly from there to
its end; what falls into a window is in proportion, so that the parts of all windows sum to the whole. Every visit that
generates gets one token a step: how many tokens those that are there get is how many steps the worker made.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from gateway.attribution.fit import Observations, Totals
from gateway.attribution.model import Coefficients
from gateway.attribution.visit import Visit


class Work(NamedTuple):
    """By visit, in their order; seconds as the coefficients say. `busy` is the time with a visit there."""

    linear: list[float]  # of the worker's time, whoever else was there
    fixed: list[float]  # its part of the steps that it shared, first by tenant and then by visit
    present: list[float]  # seconds between its opening and its end
    memory: list[float]  # token-seconds of KV cache
    tenants: list[int]  # of each visit, counted from 0
    alone: list[float]  # by tenant: the time that the worker would have been busy for it alone
    busy: float


TOGETHER = 1e-3  # seconds between first tokens of the same step, at most
UNSURE = 0.01  # weight of a stretch that cuts a prompt or an answer: what happened in it is a guess
MOST_COMPUTING = 0.9  # of a moment is the computing of prompts: answers go on meanwhile
MOST_OBSERVED = 300  # visits of a window that coefficients are found from: more add time and nothing else
_OPENED, _COMPUTED, _FILLED, _CLOSED = 0, 1, 2, 3  # in the order in which one visit has them


def work_of(
    visits: Sequence[Visit], c: Coefficients, start: float, end: float, seen: Observations | None = None
) -> Work:
    """In [start, end), of the visits that overlap it. `seen` is told what the coefficients may be found from."""
    a0, a1, a2, a3, a4 = c
    count = len(visits)
    linear, fixed, present, memory, steps = ([0.0] * count for _ in range(5))
    rates = [0.0] * count  # tokens a second
    tenants = [0] * count
    numbers: dict[str, int] = {}
    events: list[tuple[float, int, int]] = []
    for i, (_, _, tenant, opened, first, ended, _, prompt, cached, output) in enumerate(visits):
        tenants[i] = numbers.setdefault(tenant, len(numbers))
        since, until = max(opened, start), min(ended, end)
        waited, decoding, after = first - opened, ended - first, output - 1
        seconds = part = 0.0  # of the prompt
        if waited <= 0:
            part = float(since == opened < end)
        elif first > since:
            filled = min(first, end) - since
            part = filled / waited
            memory[i] = prompt * filled
        if part > 0:
            new = prompt - cached
            attention = new * (cached + new / 2)
            seconds = part * (a1 * new + a2 * attention)
            steps[i] = part
        if after > 0 and decoding > 0:
            begun = max(first, start)
            if until > begun:
                rate = rates[i] = after / decoding
                x0, x1 = (begun - first) * rate, (until - first) * rate
                tokens = x1 - x0
                contexts = tokens * (prompt + (x0 + x1) / 2)
                seconds += a3 * tokens + a4 * contexts
                steps[i] += tokens
                memory[i] += contexts / rate
        elif after > 0 and part > 0:  # all at one moment
            seconds += after * (a3 + a4 * (prompt + after / 2))
            steps[i] += after
        linear[i] = seconds
        present[i] = until - since
        events.append((since, _OPENED, i))
        if first < end:
            events.append((max(first, start), _FILLED, i))
        events.append((until, _CLOSED, i))
    prompts = _prompts(visits, start, end) if seen is not None else {}
    queue = _Queue(visits) if seen is not None else None
    events += [(prompt.since, _COMPUTED, i) for i, prompt in prompts.items()]
    events.sort()
    walk, alone = _Walk(len(numbers), start, a1, a2), Alone(len(numbers), start)
    stride = 1 + count // MOST_OBSERVED
    marks: dict[int, Totals] = {}
    fresh: list[int] = []
    for at, kind, i in events:
        tenant, visit, rate = tenants[i], visits[i], rates[i]
        if fresh and (at > walk.at or kind == _CLOSED):  # all that got their first token of one step
            for one in fresh:
                fixed[one] += walk.of_a_step(tenants[one])
            fresh.clear()
        if at > walk.at:
            walk.pass_to(at)
        if kind == _OPENED:
            alone.add(tenant, at, linear[i], steps[i] * a0)
            walk.open()
            if seen is not None and not i % stride:
                marks[i] = walk.totals()
        elif kind == _COMPUTED:
            walk.compute(prompts[i].new, prompts[i].attention)
        elif kind == _FILLED:
            if i in prompts:
                walk.compute(-prompts[i].new, -prompts[i].attention)
            fixed[i] = -walk.join(tenant, rate, visit.prompt - rate * (visit.first - start))
            if visit.first >= start:
                fresh.append(i)
            if seen is not None and queue is not None and i in marks and not visit.whole:
                now = walk.totals()
                if now.generating == marks[i].generating:  # while others generate, nobody sees how many steps it took
                    seen.add(marks[i], now, 1.0, queue.weight(marks[i].at, at))
                marks[i] = now
        else:
            if visit.first < end:
                fixed[i] += walk.leave(tenant, rate, visit.prompt - rate * (visit.first - start))
            walk.close()
            if seen is not None and queue is not None and i in marks and rate:
                made = steps[i] if visit.whole else rate * (at - marks[i].at)
                began = visit.opened if visit.whole else visit.first
                cut = began < start or visit.end > end  # how many steps a part of it had, nobody sees
                seen.add(marks[i], walk.totals(), made, UNSURE if cut else queue.weight(marks[i].at, at))
    return Work(linear, [a0 * part for part in fixed], present, memory, tenants, alone.until(end), walk.busy)


class _Prompt(NamedTuple):
    """The computing of a prompt: since when, and how much a second."""

    since: float
    new: float
    attention: float


def _prompts(visits: Sequence[Visit], start: float, end: float) -> dict[int, _Prompt]:
    """By visit, of those whose first token came in [start, end): engines compute prompts one after the other, so each
    was computed after the first token of the one before it."""
    found: dict[int, _Prompt] = {}
    before = latest = start
    for i in sorted(range(len(visits)), key=lambda i: visits[i].first):
        visit = visits[i]
        if visit.first <= start or visit.first >= end:
            continue
        if not visit.whole:
            if visit.first > latest:
                before, latest = latest, visit.first
            since = max(visit.opened, before)
        else:
            since = max(visit.opened, start)
        if since < visit.first:
            new, seconds = visit.prompt - visit.cached, visit.first - since
            found[i] = _Prompt(since, new / seconds, new * (visit.cached + new / 2) / seconds)
    return found


class _Queue:
    """Who waited for a first token, and when: how much of such a prompt was computed by then, nobody sees."""

    def __init__(self, visits: Sequence[Visit]) -> None:
        self._opened = sorted(visit.opened for visit in visits)
        self._first = sorted(visit.first for visit in visits)

    def weight(self, start: float, end: float) -> float:
        """Of what a stretch says: little where it cuts the computing of a prompt."""
        return UNSURE if self._waiting(start) or self._waiting(end) else 1.0

    def _waiting(self, at: float) -> bool:
        return bisect_left(self._opened, at) > bisect_right(self._first, at + TOGETHER)


class _Walk:
    """The state of the worker at one moment of the walk."""

    def __init__(self, tenants: int, start: float, a1: float, a2: float) -> None:
        self.at = self._start = start
        self._a1, self._a2 = a1, a2
        self.busy = 0.0
        self._stepping = 0.0  # seconds in which no prompt was computed: steps are even in these
        self._there = self._generating = self._tenants = 0  # visits, those that generate, their tenants
        self._new = self._attention = self._generated = self._contexts = 0.0
        self._new_rate = self._attention_rate = 0.0
        self._context = self._context_growth = 0.0  # of those that generate: context + growth * time since start
        # The integral of 1 / tenants, and for each tenant of 1 / (tenants * its visits): what one visit of it has of
        # each second in which it gets one token a second.
        self._shared = 0.0
        self._members = [0] * tenants
        self._of_tenant = [0.0] * tenants
        self._shared_at = [0.0] * tenants

    def pass_to(self, at: float) -> None:
        passed = at - self.at
        if self._there:
            self.busy += passed
            self._new += self._new_rate * passed
            self._attention += self._attention_rate * passed
            if self._generating:
                self._shared += passed / self._tenants
                middle = (self.at + at) / 2 - self._start
                computing = self._a1 * self._new_rate + self._a2 * self._attention_rate
                stepping = passed * (1 - min(computing, MOST_COMPUTING))
                self._stepping += stepping
                self._generated += self._generating * stepping
                self._contexts += (self._context + self._context_growth * middle) * stepping
        self.at = at

    def totals(self) -> Totals:
        return Totals(self.at, self._new, self._attention, self._stepping, self._generated, self._contexts)

    def open(self) -> None:
        self._there += 1

    def compute(self, new: float, attention: float) -> None:
        self._new_rate += new
        self._attention_rate += attention

    def close(self) -> None:
        self._there -= 1
        if not self._there:  # no rounding is carried on
            self._new_rate = self._attention_rate = self._context = self._context_growth = 0.0

    def join(self, tenant: int, rate: float, context: float) -> float:
        """Begins to generate; what `leave` gives is to be set against what this gives."""
        part = self._part(tenant)
        if not self._members[tenant]:
            self._tenants += 1
        self._members[tenant] += 1
        self._generating += 1
        self._context += context
        self._context_growth += rate
        return part * rate

    def leave(self, tenant: int, rate: float, context: float) -> float:
        part = self._part(tenant)
        self._members[tenant] -= 1
        if not self._members[tenant]:
            self._tenants -= 1
        self._generating -= 1
        self._context -= context
        self._context_growth -= rate
        return part * rate

    def of_a_step(self, tenant: int) -> float:
        """What a visit that is there has of a step at this moment."""
        return 1 / (self._tenants * self._members[tenant])

    def _part(self, tenant: int) -> float:
        members = self._members[tenant]
        if members:
            self._of_tenant[tenant] += (self._shared - self._shared_at[tenant]) / members
        self._shared_at[tenant] = self._shared
        return self._of_tenant[tenant]


class Alone:
    """How long a worker would have been busy for each tenant alone: what is to compute is computed at once, and the
    steps of those that are there together are made together."""

    def __init__(self, tenants: int, start: float) -> None:
        self._at = [start] * tenants
        self._linear = [0.0] * tenants  # still to compute
        self._steps = [0.0] * tenants  # and then, seconds of the longest row of steps
        self._busy = [0.0] * tenants

    def add(self, tenant: int, at: float, linear: float, steps: float) -> None:
        self._pass(tenant, at)
        self._linear[tenant] += linear
        if steps > self._steps[tenant]:
            self._steps[tenant] = steps

    def until(self, end: float) -> list[float]:
        for tenant in range(len(self._at)):
            self._pass(tenant, end)
        return self._busy

    def _pass(self, tenant: int, at: float) -> None:
        passed = at - self._at[tenant]
        self._at[tenant] = at
        linear = self._linear[tenant]
        if passed <= linear:
            self._linear[tenant] = linear - passed
            self._busy[tenant] += passed
            return
        steps = min(self._steps[tenant], passed - linear)
        self._linear[tenant] = 0.0
        self._steps[tenant] -= steps
        self._busy[tenant] += linear + steps
