"""The bill of a worker's time, put into an SQLite ledger as the attribution does."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from gateway.ledger.record import Label, Line

NOBODY = Label("")


def nobodys(name: str, worker: str = "chat-int4-0") -> Line:
    """The line of what is nobody's: `nobodys("__idle__")`."""
    return Line(name, "", "", "chat-8b", "int4", "", "", worker, "gpu_time")


def share_out(
    path: Path,
    worker: str,
    start: float,
    end: float,
    hourly: int,
    parts: Mapping[tuple[Line, Label], int] | Sequence[tuple[tuple[Line, Label], int]],
) -> int:
    """Closes a window: the parts in the proportion of their numbers, the rest of it to the first. Its cost."""
    items = list(parts.items()) if isinstance(parts, Mapping) else list(parts)
    cost = int(hourly * (end - start) / 3600)
    weight = sum(number for _, number in items)
    shares = [cost * number // weight for _, number in items]
    shares[0] += cost - sum(shares)
    hour = int(start // 3600) * 3600
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            'INSERT INTO windows (worker, "start", "end", hourly, cost_nanousd, busy_ns, attributed_at) '
            "VALUES (?, ?, ?, ?, ?, 0, ?)",
            (worker, start, end, hourly, cost, end + 1),
        )
        for ((line, label), _), share in zip(items, shares, strict=True):
            connection.execute(
                "INSERT INTO allocations (hour, line, label, cost_nanousd) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (hour, line, label) DO UPDATE SET cost_nanousd = cost_nanousd + excluded.cost_nanousd",
                (hour, _number(connection, "lines", line), _number(connection, "labels", label), share),
            )
    return cost


def _number(connection: sqlite3.Connection, table: str, names: Line | Label) -> int:
    columns, places = ", ".join(names._fields), ", ".join("?" * len(names))
    connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({places}) ON CONFLICT DO NOTHING", names)
    return connection.execute(f"SELECT id FROM {table} WHERE ({columns}) = ({places})", names).fetchone()[0]
