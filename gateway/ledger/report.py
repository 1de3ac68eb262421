"""The bill: the ledger summed over any of its dimensions. Every row is exact, so the rows sum to the total."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.ledger.opening import open_books
from gateway.ledger.store import LedgerError
from gateway.ledger.sums import DIMENSIONS, sums

MEASURES = ("requests", "attempts", "prompt_tokens", "cached_tokens", "output_tokens", "gpu_seconds", "cost_usd")

_IN_BILLIONTHS = ("gpu_seconds", "cost_usd")  # summed as whole nanoseconds and nano-USD

Cell = str | int


class Report(NamedTuple):
    """A table. Dimensions come first in `columns`; `total` is as wide as a row and has "" for each dimension.

    Counts are integers; seconds and USD are decimal strings with nine places, exact.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]
    total: tuple[Cell, ...]


def build(url: str, by: Sequence[str], since: float | None = None, until: float | None = None) -> Report:
    """Sum the attempts that started in [since, until) (Unix seconds, None: no bound), one row per value of `by`.

    A request counts once, where its last attempt in that span went; days and hours are UTC. Other processes may write
    meanwhile: the report is of one moment.
    """
    for name in by:
        if name not in DIMENSIONS:
            raise LedgerError(f"the ledger has no dimension `{name}`: choose among {', '.join(DIMENSIONS)}")
    if len(set(by)) < len(by):
        raise LedgerError(f"a dimension is named twice in `{','.join(by)}`: name each once")
    width = len(by)
    with open_books(url).snapshot() as ledger:
        groups = sums(ledger, by, since, until)
    total = [sum(int(group[width + column]) for group in groups) for column in range(len(MEASURES))]
    return Report(
        columns=(*by, *MEASURES),
        rows=[(*group[:width], *_readable(group[width:])) for group in groups],
        total=(*[""] * width, *_readable(total)),
    )


def exact(billionths: int) -> str:
    """A number of billionths (nano-USD, nanoseconds) as a decimal with nine places."""
    sign = "-" if billionths < 0 else ""
    whole, rest = divmod(abs(billionths), 1_000_000_000)
    return f"{sign}{whole}.{rest:09d}"


def _readable(measures: Sequence[Cell]) -> list[Cell]:
    return [
        exact(int(value)) if name in _IN_BILLIONTHS else int(value)
        for name, value in zip(MEASURES, measures, strict=True)
    ]
