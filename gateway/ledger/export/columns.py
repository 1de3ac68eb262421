"""What a column of an export holds."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, NamedTuple

Kind = Literal[
    "text",
    "count",  # an integer of 64 bits
    "number",  # a float
    "flag",
    "amount",  # a Decimal with nine places: USD, seconds
    "ratio",  # a Decimal with twelve
    "time",  # Unix seconds, to the millisecond
]
Cell = str | int | float | bool | Decimal | None
Row = tuple[Cell, ...]

PLACES = {"amount": 9, "ratio": 12}


class Column(NamedTuple):
    name: str
    kind: Kind
