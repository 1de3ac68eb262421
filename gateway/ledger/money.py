"""Exact amounts: written out in full, and shared out so that the parts sum to the whole."""

from __future__ import annotations

from collections.abc import Sequence

BILLION = 1_000_000_000


def exact(billionths: int) -> str:
    """A number of billionths (nano-USD, nanoseconds) as a decimal with nine places."""
    sign = "-" if billionths < 0 else ""
    whole, rest = divmod(abs(billionths), BILLION)
    return f"{sign}{whole}.{rest:09d}"


def rounded(parts: Sequence[int], unit: int) -> list[int]:
    """Each part in whole units, such that they sum to their exact sum rounded half up (largest remainder).

    No part is off by a unit or more, and the sum is the same however the whole was cut into parts.
    """
    floors = [part // unit for part in parts]
    missing = (2 * sum(parts) + unit) // (2 * unit) - sum(floors)
    by_remainder = sorted(range(len(parts)), key=lambda index: (-(parts[index] % unit), index))
    for index in by_remainder[:missing]:
        floors[index] += 1
    return floors


def halves(column: str) -> str:
    """SQL for a sum in two parts, of which neither passes 64 bits; `whole` puts them together."""
    return f"SUM({column} / {BILLION}), SUM({column} - {column} / {BILLION} * {BILLION})"


def whole(billions: int, rest: int) -> int:
    return billions * BILLION + rest
