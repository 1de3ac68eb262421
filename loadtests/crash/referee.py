"""What has to hold after a death and a recovery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway.ledger.journal.reader import journals
from gateway.ledger.opening import open_books
from gateway.ledger.record import Label, Line
from gateway.ledger.rollup import HOUR
from loadtests.crash.story import TENANTS, Expected, Key, Row

_LINE, _LABEL = ", ".join(Line._fields), ", ".join(f"attempts.{name}" for name in Label._fields)
_ROWS = f"""
    SELECT request_id, number, correction, {_LINE}, {_LABEL}, duration_seconds, started_at, opened_at, ttft_seconds,
        outcome, status, estimated, final, prompt_tokens, cached_tokens, output_tokens, gpu_ns, cost_nanousd,
        choices
    FROM attempts
"""
_COST = -2  # its place in a row
_ENTRIES = "SELECT request_id, number, correction FROM entries"
_SUMS = """
    SELECT hour, line, outcome, requests, attempts, prompt_tokens, cached_tokens, output_tokens, gpu_ns, cost_nanousd
    FROM rollups
"""
_OUGHT = f"""
    SELECT CAST(FLOOR(started_at / {HOUR}) AS BIGINT) * {HOUR}, line, outcome,
        SUM(CASE WHEN correction = 0 THEN final ELSE 0 END), SUM(CASE WHEN correction = 0 THEN 1 ELSE 0 END),
        SUM(prompt_tokens), SUM(cached_tokens), SUM(output_tokens), SUM(gpu_ns), SUM(cost_nanousd)
    FROM entries GROUP BY 1, 2, 3
"""


def look(ledger: str) -> dict[str, list[tuple[Any, ...]]]:
    """All of the ledger, in an order of its own."""
    with open_books(ledger).snapshot() as snapshot:
        found = {
            "rows": snapshot.rows(_ROWS),
            "entries": snapshot.rows(_ENTRIES),
            "readings": snapshot.rows("SELECT worker, at, source FROM readings"),
            "sums": [tuple(map(_plain, row)) for row in snapshot.rows(_SUMS)],
            "ought": [tuple(map(_plain, row)) for row in snapshot.rows(_OUGHT)],
        }
    return {name: sorted(rows, key=repr) for name, rows in found.items()}


def judge(ledger: str, root: Path, candidates: Sequence[Expected]) -> list[str]:
    """What does not hold; `candidates` are the states that may be: with and without what was being said at the end."""
    found = look(ledger)
    rows, readings = _by_key(found["rows"]), {tuple(row) for row in found["readings"]}
    problems: list[str] = []
    if not any(rows == one.rows and readings == one.readings for one in candidates):
        problems += _differences(rows, readings, min(candidates, key=lambda one: _distance(rows, one)))
    twice = [key for key, count in Counter(found["entries"]).items() if count > 1]
    if twice or len(found["rows"]) != len(found["entries"]):
        problems.append(f"duplicated: {twice or 'names'}")
    if found["sums"] != found["ought"]:
        problems.append("the sums are not those of the entries")
    for tenant in TENANTS:
        cost = sum(int(row[_COST]) for row in found["rows"] if row[3] == tenant)
        if (spent := open_books(ledger).spent(tenant, 0)) != cost:
            problems.append(f"{tenant} spent {cost}, and {spent} is said")
    if left := [*journals(root), *(path.name for path in root.glob("damaged-*"))]:
        problems.append(f"left over: {', '.join(left)}")
    return problems


def _by_key(rows: Sequence[tuple[Any, ...]]) -> dict[Key, Row]:
    return {row[:3]: _row(row[3:]) for row in rows}


def _row(columns: tuple[Any, ...]) -> Row:
    """As story.as_row spells it."""
    names, (duration, started_at, opened_at, ttft, outcome, status, estimated, final, *numbers) = (
        columns[:12],
        columns[12:],
    )
    return (
        *names,
        None if outcome == "crashed" else duration,
        *(started_at, opened_at, ttft, outcome, status, bool(estimated), bool(final)),
        *map(int, numbers),
    )


def _distance(rows: dict[Key, Row], one: Expected) -> int:
    return len(rows.items() ^ one.rows.items())


def _differences(rows: dict[Key, Row], readings: set[tuple[object, ...]], one: Expected) -> list[str]:
    told: list[str] = []
    if lost := sorted(one.rows.keys() - rows.keys()):
        told.append(f"lost: {lost}")
    if more := sorted(rows.keys() - one.rows.keys()):
        told.append(f"never said: {more}")
    told += [
        f"{key} is {rows[key]} and ought to be {row}"
        for key, row in one.rows.items()
        if key in rows and rows[key] != row
    ]
    if readings != one.readings:
        told.append(f"readings lost {len(one.readings - readings)}, never said {len(readings - one.readings)}")
    return told


def _plain(value: Any) -> Any:
    """PostgreSQL sums to decimals."""
    return value if isinstance(value, str | None) else int(value)
