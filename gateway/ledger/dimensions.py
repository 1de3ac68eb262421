"""What a report may be grouped by, and how each value is written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from gateway.ledger.record import Line
from gateway.ledger.store import LedgerError

# Each is a field of the line an attempt is booked under.
OF_LINE: dict[str, int] = {
    "tenant": Line._fields.index("tenant"),
    "key": Line._fields.index("key_id"),
    "model": Line._fields.index("model"),
    "version": Line._fields.index("version"),
    "adapter": Line._fields.index("adapter"),
    "route": Line._fields.index("route"),
    "worker": Line._fields.index("worker"),
    "endpoint": Line._fields.index("endpoint"),
}
OF_TIME = ("day", "hour")
OF_LABEL = ("user", "model_asked")
TAG = "tag:"

DIMENSIONS = (*OF_LINE, "outcome", *OF_TIME, *OF_LABEL, "tag:NAME")

MOST_TAG_CHARS = 64
DAY_HOURS = 24


def check(by: Sequence[str]) -> None:
    """Raises LedgerError that says what there is to group by."""
    for name in by:
        if not is_dimension(name):
            raise LedgerError(f"the ledger has no dimension `{name[:80]}`: choose among {', '.join(DIMENSIONS)}")
    if len(set(by)) < len(by):
        raise LedgerError(f"a dimension is named twice in `{','.join(by)}`: name each once")


def is_dimension(name: str) -> bool:
    if name.startswith(TAG):
        return 0 < len(name) - len(TAG) <= MOST_TAG_CHARS
    return name in DIMENSIONS


def of_label(by: Sequence[str]) -> bool:
    """Whether any of them is what clients said, which sums by the hour do not keep."""
    return any(name in OF_LABEL or name.startswith(TAG) for name in by)


def resolution(by: Sequence[str]) -> Literal["hour", "day"] | None:
    return "hour" if "hour" in by else "day" if "day" in by else None


def written_hour(hours: int) -> str:
    """Hours since 1970, as UTC."""
    return f"{datetime.fromtimestamp(hours * 3600, UTC):%Y-%m-%dT%H:00Z}"


def written_moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def written_day(days: int) -> str:
    return f"{datetime.fromtimestamp(days * 86_400, UTC):%Y-%m-%d}"
