"""The periods of budgets: UTC days, UTC months, or all time.

What a request costs belongs to the period it was admitted in, as in the ledger, so both agree after midnight.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal

Per = Literal["day", "month", "total"]

_DAY: Final = 86_400_000
FOREVER: Final = 253_402_300_800_000  # the year 10000


def period(per: Per, now: int) -> tuple[int, int]:
    """The period `now` lies in: its first moment, and the first moment after it, in Unix milliseconds."""
    if per == "day":
        start = now // _DAY * _DAY
        return start, start + _DAY
    if per == "month":
        first = datetime.fromtimestamp(now // 1_000, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
        return int(first.timestamp()) * 1_000, int(after.timestamp()) * 1_000
    return 0, FOREVER
