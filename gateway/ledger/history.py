"""The bill over time: one series for each value of a dimension, as a chart wants it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from gateway.ledger import dimensions, report

MOST_HOURS = 7 * 24  # above that, days
MOST_SERIES = 9  # the largest; the others are one
OTHERS = "others"


class Series(NamedTuple):
    name: str
    nanousd: list[int]  # one for each of the times


class History(NamedTuple):
    """`times` are hours or days that follow one another (Unix seconds), `step` is how long each is."""

    dimension: str
    measure: str
    step: int
    times: list[int]
    series: list[Series]  # the largest first; what is nobody's, like __idle__, last


def read(url: str, by: Sequence[str], since: float | None, until: float | None) -> History:
    """By the first of `by` that is no time; of cost_usd, or of metered_usd where nothing is billed yet.

    Raises LedgerError.
    """
    dimension = next((name for name in by if name not in dimensions.OF_TIME), "tenant")
    hours = report.build(url, [dimension, "hour"], since, until)
    measure = "cost_usd" if _sum(hours.total[-1]) else "metered_usd"
    column = hours.columns.index(measure)
    values: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for row in hours.rows:
        if amount := _sum(row[column]):
            values[str(row[0])][_seconds(str(row[1]))] += amount
    seen = [hour for series in values.values() for hour in series]
    if not seen:
        return History(dimension, measure, 3600, [], [])
    step = 3600 if max(seen) - min(seen) < MOST_HOURS * 3600 else 86_400
    times = list(range(min(seen) // step * step, max(seen) + 1, step))
    series = [
        Series(name, [sum(of.get(hour, 0) for hour in range(at, at + step, 3600)) for at in times])
        for name, of in values.items()
    ]
    return History(dimension, measure, step, times, _largest(series))


def _largest(series: list[Series]) -> list[Series]:
    nobodys = sorted(one for one in series if one.name.startswith("__"))
    others = sorted((one for one in series if not one.name.startswith("__")), key=lambda one: -sum(one.nanousd))
    kept, rest = others[:MOST_SERIES], others[MOST_SERIES:]
    if len(rest) == 1:
        kept, rest = others, []
    if rest:
        kept.append(Series(OTHERS, [sum(amounts) for amounts in zip(*(one.nanousd for one in rest), strict=True)]))
    return [*kept, *nobodys]


def _sum(written: report.Cell) -> int:
    return int(str(written).replace(".", "", 1))  # nine places


def _seconds(hour: str) -> int:
    return int(datetime.strptime(hour, "%Y-%m-%dT%H:00Z").replace(tzinfo=UTC).timestamp())
