"""Rows as PostgreSQL's array literals, one for each column: the cheapest way to hand over thousands. No IO.

A value that is not of its column's type raises TypeError or ValueError; nothing of a value is ever read as syntax.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.ledger.record import Attempt, Reading


def integers(values: Iterable[int]) -> str:
    return f"{{{','.join(map(int.__repr__, values))}}}"


def floats(values: Iterable[float]) -> str:
    return f"{{{','.join(map(repr, map(float, values)))}}}"


def floats_or_null(values: Iterable[float | None]) -> str:
    return f"{{{','.join(['NULL' if value is None else repr(float(value)) for value in values])}}}"


def texts(values: Sequence[str]) -> str:
    if not values:
        return "{}"
    whole = '","'.join(values)
    if "\\" in whole or whole.count('"') > 2 * (len(values) - 1):
        whole = '","'.join([value.replace("\\", "\\\\").replace('"', '\\"') for value in values])
    return f'{{"{whole}"}}'


def columns_of_attempts(rows: Sequence[tuple[Attempt, int, int]]) -> list[str]:
    """Of attempts with the numbers of their lines and labels, in the order of the table `entries`."""
    attempts, lines, labels = zip(*rows, strict=True)
    (
        request_ids,
        numbers,
        corrections,
        _,
        _,
        started,
        opened,
        ttft,
        durations,
        outcomes,
        statuses,
        estimated,
        final,
        *counts,
    ) = zip(*attempts, strict=True)
    return [
        texts(request_ids),
        integers(numbers),
        integers(corrections),
        integers(lines),
        integers(labels),
        floats(started),
        floats(opened),
        floats_or_null(ttft),
        floats(durations),
        texts(outcomes),
        integers(statuses),
        integers(map(bool, estimated)),
        integers(map(bool, final)),
        *map(integers, counts),
    ]


def columns_of_readings(readings: Sequence[Reading]) -> list[str]:
    """In the order of Reading's fields."""
    (
        at,
        sources,
        workers,
        models,
        versions,
        hourly,
        up,
        busy,
        in_flight,
        running,
        waiting,
        kv_usage,
        prompt_tokens,
        output_tokens,
        engine_started,
    ) = zip(*readings, strict=True)
    return [
        floats(at),
        texts(sources),
        texts(workers),
        texts(models),
        texts(versions),
        integers(hourly),
        integers(map(bool, up)),
        *map(integers, (busy, in_flight, running, waiting)),
        floats(kv_usage),
        *map(integers, (prompt_tokens, output_tokens)),
        floats(engine_started),
    ]
