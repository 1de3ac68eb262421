"""The bill: the ledger summed over any of its dimensions. Every row is exact, so the rows sum to the total.

An attempt has two costs. `metered_usd` is what its process knew at its end, and what budgets count. `cost_usd` is the
bill: a worker's time shared out exactly, its idle time included, and token prices where a worker has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import orjson

from gateway.ledger import dimensions, sums
from gateway.ledger.dimensions import TAG, written_moment
from gateway.ledger.money import exact, rounded
from gateway.ledger.opening import open_books
from gateway.ledger.record import Label, Line
from gateway.ledger.retention import pruned_before
from gateway.ledger.shared import Shared, shared_out
from gateway.ledger.showback import MILLION, Showback
from gateway.ledger.store import Snapshot
from gateway.ledger.sums import By, Span, Sum
from gateway.table import Price

MEASURES = (
    "requests",
    "attempts",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "gpu_seconds",
    "metered_usd",
    "cost_usd",
)
SHOWBACK = ("price_usd", "difference_usd")

_COUNTS = 5  # measures that are counts; the others are billionths
_UNSAID = Label("", "", "")  # the label where none is kept: in sums by the hour, on lines of the bill like __idle__

Cell = str | int
Key = tuple[str, ...]


class Report(NamedTuple):
    """A table. The dimensions `by` come first in `columns`; `total` is as wide as a row and has "" for each of them.

    Counts are integers; seconds and USD are decimal strings with nine places, exact.
    """

    by: tuple[str, ...]
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]
    total: tuple[Cell, ...]
    shared: Shared
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        through = self.shared.through
        return {
            "by": list(self.by),
            "rows": [dict(zip(self.columns, row, strict=True)) for row in self.rows],
            "total": dict(list(zip(self.columns, self.total, strict=True))[len(self.by) :]),
            "shared_through": None if through is None else written_moment(through),
            "unshared_usd": exact(self.shared.unshared),
            "notes": list(self.notes),
        }


class _Group:
    __slots__ = ("measures", "price")

    def __init__(self) -> None:
        self.measures = [0] * len(MEASURES)
        self.price = 0  # at a price list, in millionths of a nano-USD


def build(
    url: str,
    by: Sequence[str],
    since: float | None = None,
    until: float | None = None,
    prices: Mapping[str, Price] | None = None,
) -> Report:
    """Sum the attempts that started in [since, until) (Unix seconds, None: no bound), one row per value of `by`, and
    what the hours that begin in it have cost.

    A request counts once, where its last attempt went; days and hours are UTC. Raises LedgerError for dimensions that
    are not there and a ledger that can not be read.
    """
    with open_books(url).snapshot() as ledger:
        return read(ledger, by, since, until, prices)


def read(
    ledger: Snapshot,
    by: Sequence[str],
    since: float | None = None,
    until: float | None = None,
    prices: Mapping[str, Price] | None = None,
) -> Report:
    """The same of a ledger that is open."""
    dimensions.check(by)
    showback = None if prices is None else Showback(prices)
    within = sums.span(since, until, pruned_before(ledger))
    groups = _groups(ledger, by, within, showback)
    shared = shared_out(ledger, within)
    untold = within.lacks_entries or (dimensions.of_label(by) and sums.unlabelled(ledger, within, by))
    keys = sorted(groups, key=_in_order)
    measures = [groups[key].measures for key in keys]
    total = [sum(column) for column in zip(*measures, strict=True)] or [0] * len(MEASURES)
    columns = (*by, *MEASURES)
    rows: list[tuple[Cell, ...]] = [(*key, *_readable(values)) for key, values in zip(keys, measures, strict=True)]
    whole: tuple[Cell, ...] = (*[""] * len(by), *_readable(total))
    if showback is not None:
        priced = rounded([groups[key].price for key in keys], MILLION)
        columns += SHOWBACK
        rows = [
            (*row, exact(price), exact(price - values[-1]))
            for row, values, price in zip(rows, measures, priced, strict=True)
        ]
        whole += (exact(sum(priced)), exact(sum(priced) - total[-1]))
    return Report(tuple(by), columns, rows, whole, shared, tuple(_notes(by, within, shared, showback, untold=untold)))


def _groups(ledger: Snapshot, by: Sequence[str], within: Span, showback: Showback | None) -> dict[Key, _Group]:
    lines = sums.lines(ledger)
    apart = By(dimensions.resolution(by), "outcome" in by, dimensions.of_label(by))
    said = _said(ledger, by) if apart.label else {}
    unsaid = tuple(_of_label(name, _UNSAID) for name in by if dimensions.of_label((name,)))
    key_of = _key_of(by, apart)
    groups: dict[Key, _Group] = {}
    for one in sums.usage(ledger, within, apart):
        line = lines[one.line]
        key = key_of(line, one, said.get(one.label, unsaid))
        group = groups.get(key)
        if group is None:
            group = groups[key] = _Group()
        billed = one.cost if line.cost_basis == "token_price" else 0
        for place, value in enumerate((*one[4:], billed)):
            group.measures[place] += value
        if showback is not None:
            group.price += showback.of(line, one.prompt_tokens, one.cached_tokens, one.output_tokens)
    for one in sums.bill(ledger, within, apart):
        key = key_of(lines[one.line], one, said.get(one.label, unsaid))
        group = groups.get(key)
        if group is None:
            group = groups[key] = _Group()
        group.measures[-1] += one.cost
    return groups


def _key_of(by: Sequence[str], apart: By) -> Callable[[Line, Sum, tuple[str, ...]], Key]:
    """A function that gives the values of `by`; each hour and day is written once."""
    times: dict[int, tuple[str, str]] = {}
    fields: list[tuple[int, int]] = []  # of which of line, time, outcome, label, and its place there
    said = 0
    for name in by:
        if name in dimensions.OF_LINE:
            fields.append((0, dimensions.OF_LINE[name]))
        elif name in dimensions.OF_TIME:
            fields.append((1, dimensions.OF_TIME.index(name)))
        elif name == "outcome":
            fields.append((2, 0))
        else:
            fields.append((3, said))
            said += 1

    def written(time: int) -> tuple[str, str]:
        if apart.time is None:
            return "", ""
        if apart.time == "day":
            return dimensions.written_day(time), ""
        return dimensions.written_day(time // dimensions.DAY_HOURS), dimensions.written_hour(time)

    def key(line: Line, one: Sum, label: tuple[str, ...]) -> Key:
        if one.time not in times:
            times[one.time] = written(one.time)
        sources = line, times[one.time], (one.outcome,), label
        return tuple(sources[source][place] for source, place in fields)

    return key


def _said(ledger: Snapshot, by: Sequence[str]) -> dict[int, tuple[str, ...]]:
    """The values of those of `by` that clients said, for each label."""
    names = [name for name in by if dimensions.of_label((name,))]
    return {number: tuple(_of_label(name, label) for name in names) for number, label in sums.labels(ledger)}


def _of_label(name: str, label: Label) -> str:
    if name == "user":
        return label.user
    if name == "model_asked":
        return label.model_asked
    return str(_tags(label.tags).get(name[len(TAG) :], ""))


def _tags(text: str) -> dict[str, Any]:
    found: Any = orjson.loads(text) if text else None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _in_order(key: Key) -> list[tuple[bool, str]]:
    """By value; lines of the bill that are nobody's, like __idle__, come last."""
    return [(value.startswith("__"), value) for value in key]


def _readable(measures: Iterable[int]) -> list[Cell]:
    return [value if place < _COUNTS else exact(value) for place, value in enumerate(measures)]


def _notes(
    by: Sequence[str], within: Span, shared: Shared, showback: Showback | None, *, untold: bool
) -> Iterable[str]:
    yield from shared.notes()
    if shared.through is not None and within.edges:
        yield (
            "cost_usd of workers' time is that of the hours that begin in the time asked for, everything else is that "
            "of its requests: ask from and to full hours to compare them"
        )
    if untold:
        before = dimensions.written_hour(within.pruned_before // 3600)
        yield (
            f"rows of single attempts before {before} have been removed (`metering.retention`): what clients said, and "
            "parts of an hour, can not be told for that time"
        )
    if "outcome" in by and shared.through is not None:
        yield "cost_usd of workers' time is not kept by outcome: it stands under none; metered_usd is by outcome"
    if showback is not None and showback.unpriced:
        yield f"no price is listed for {', '.join(sorted(showback.unpriced))}: their tokens count for nothing here"
