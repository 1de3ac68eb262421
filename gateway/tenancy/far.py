"""The store that processes share their accounts in: what it is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from gateway.state.limits import Call, Presence
from gateway.tenancy.book import Grant
from gateway.tenancy.purse import Errand

GRANT = len(Grant._fields)


class Far(Protocol):
    """The store, as `state.limits.RedisLimits` is one. Fails with one of `FAILURES`."""

    async def claim(self, calls: Sequence[Call]) -> list[list[int]]: ...

    async def present(self, holder: str, *, well: bool = True) -> Presence: ...

    async def leave(self, holder: str) -> None: ...

    async def close(self) -> None: ...


def call(errand: Errand, holder: str, ttl: int) -> Call:
    """A claim of the process `holder`, which is taken for dead if it makes none for `ttl` milliseconds."""
    written: list[Any] = [
        holder,
        errand.seq,
        ttl,
        -1,
        [allotment.name for allotment in errand.allotments],
        [list(claim) for claim in errand.claims],
        [list(demand) for demand in errand.demands],
    ]
    return Call(errand.purse.name, written)


def grants_of(answer: list[int]) -> list[Grant]:
    """None when the claim was overtaken."""
    numbers = answer[2:]
    return [Grant(*numbers[at : at + GRANT]) for at in range(0, len(numbers), GRANT)]


def fit(errands: list[Errand], answers: list[list[int]]) -> bool:
    """Whether each answer has a grant for each claim, or says that it was overtaken."""
    for one, answer in zip(errands, answers, strict=True):
        if not answer[1] and len(answer) != 2 + GRANT * len(one.claims):
            return False
    return True
