"""Budgets in integer nano-USD per UTC day, per UTC month, or in total: reserve, then settle.

What an attempt costs belongs to the period its request was admitted in, as in the ledger, so both agree after midnight.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

Per = Literal["day", "month", "total"]

_DAY = 86_400.0
_FOREVER = float("inf")


def period(per: Per, now: float) -> tuple[float, float]:
    """The period `now` lies in: its first moment, and the first moment after it, in Unix seconds."""
    if per == "day":
        start = now // _DAY * _DAY
        return start, start + _DAY
    if per == "month":
        first = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
        return first.timestamp(), after.timestamp()
    return 0.0, _FOREVER


@dataclass(slots=True)
class Spending:
    """What one tenant has spent and reserved in the current period.

    `generation` tells a reservation of this period from one of a period that is over: the latter is forgotten here.
    """

    per: Per | None = None
    start: float = 0.0
    end: float = 0.0
    generation: int = 0
    spent: int = 0
    reserved: int = 0
    reported: bool = False  # the overrun of this period has been told
    seeded: tuple[float, int] | None = None  # (period start, spent) for a period not yet entered

    def enter(self, per: Per, now: float) -> None:
        """Move on to the period `now` lies in. A clock that is set back keeps the period it had reached."""
        if per == self.per and now < self.end:
            return
        self.per = per
        self.start, self.end = period(per, now)
        self.generation += 1
        self.spent = self.seeded[1] if self.seeded is not None and self.seeded[0] == self.start else 0
        self.seeded = None
        self.reserved = 0
        self.reported = False

    def affords(self, cost: int, budget: int) -> bool:
        """Whether `cost` fits beside what is spent and reserved. Used up, it affords nothing, not even what is free."""
        return self.spent + self.reserved + cost <= budget and self.spent < budget

    def seed(self, start: float, spent: int) -> None:
        """What the ledger knows was spent in the period that begins at `start`."""
        if self.per is not None and start == self.start:
            self.spent = spent
        else:
            self.seeded = (start, spent)

    def knows(self, start: float) -> bool:
        """Whether the period that begins at `start` is the current one, or seeded for."""
        return (self.per is not None and start == self.start) or (self.seeded is not None and start == self.seeded[0])

    def settle(self, reserved: int, cost: int, generation: int, admitted: float) -> None:
        """Give a reservation back and book what it cost, if its period is still the current one."""
        if generation == self.generation:
            self.reserved -= reserved
        if admitted >= self.start:
            self.spent += cost
