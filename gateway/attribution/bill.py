"""SQL: the bill."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from gateway.attribution.fit import Fit
from gateway.attribution.model import Coefficients
from gateway.attribution.split import Key
from gateway.attribution.timeline import Piece
from gateway.ledger.record import Line
from gateway.ledger.store import Change, Snapshot, Value

HOUR_MS = 3_600_000

_WINDOW = """
    INSERT INTO windows (worker, "start", "end", hourly, cost_nanousd, busy_ns, attributed_at)
    VALUES (:worker, :start, :end, :hourly, :cost, :busy_ns, :now)
"""
_BUSY = 'UPDATE windows SET busy_ns = :busy_ns, attributed_at = :now WHERE worker = :worker AND "start" = :start'
_BILLED = """
    INSERT INTO billed (worker, through) VALUES (:worker, :through)
    ON CONFLICT (worker) DO UPDATE SET through = excluded.through
"""
_SHARE = """
    INSERT INTO shares (worker, "start", line, label, cost_nanousd) VALUES (:worker, :start, :line, :label, :cost)
    ON CONFLICT (worker, "start", line, label) DO UPDATE SET cost_nanousd = shares.cost_nanousd + excluded.cost_nanousd
"""
_ALLOCATION = """
    INSERT INTO allocations (hour, line, label, cost_nanousd) VALUES (:hour, :line, :label, :cost)
    ON CONFLICT (hour, line, label) DO UPDATE SET cost_nanousd = allocations.cost_nanousd + excluded.cost_nanousd
"""
_FIT = """
    INSERT INTO fits (model, version, gpu, at, n, r2, a0, a1, a2, a3, a4)
    VALUES (:model, :version, :gpu, :at, :n, :r2, :a0, :a1, :a2, :a3, :a4) ON CONFLICT DO NOTHING
"""
_LINE_COLUMNS = ", ".join(Line._fields)
_LINE_VALUES = ", ".join(f":{name}" for name in Line._fields)


class Model(NamedTuple):
    """What coefficients belong to."""

    model: str
    version: str
    gpu: str


class Window(NamedTuple):
    """One that is in the bill; times in milliseconds."""

    start: int
    end: int
    cost: int


class Late(NamedTuple):
    worker: str
    start: float
    end: float


def through(ledger: Snapshot, worker: str) -> float | None:
    """Unix seconds up to which the time of a worker is in the bill."""
    rows = ledger.rows("SELECT through FROM billed WHERE worker = :worker", {"worker": worker})
    return float(rows[0][0]) if rows else None


def late(ledger: Snapshot, most: int) -> list[Late]:
    """Attempts of one worker that came too late, the oldest first."""
    query = 'SELECT worker, "start", "end" FROM late'
    query += ' WHERE worker = (SELECT MIN(worker) FROM late) ORDER BY worker, "start" LIMIT :most'
    return [Late(str(worker), float(start), float(end)) for worker, start, end in ledger.rows(query, {"most": most})]


def windows(ledger: Snapshot, worker: str, start: float, end: float) -> list[Window]:
    """Those that overlap [start, end) and whose shares are still there; `start` on a cut between windows."""
    rows = ledger.rows(
        """
        SELECT "start", "end", cost_nanousd FROM windows WHERE worker = :worker AND "start" >= :start AND "start" < :end
            AND (cost_nanousd = 0 OR EXISTS (
                SELECT 1 FROM shares WHERE shares.worker = windows.worker AND shares."start" = windows."start"
            ))
        ORDER BY "start"
        """,
        {"worker": worker, "start": start, "end": end},
    )
    return [Window(round(since * 1000), round(until * 1000), int(cost)) for since, until, cost in rows]


def began(ledger: Snapshot, start: float, end: float) -> int:
    """How many rows of attempts there are that began in [start, end)."""
    query = "SELECT COUNT(*) FROM entries WHERE opened_at >= :start AND opened_at < :end"
    return int(ledger.rows(query, {"start": start, "end": end})[0][0])


def fits(ledger: Snapshot) -> dict[Model, Coefficients]:
    """The last of each."""
    rows = ledger.rows(
        """
        SELECT model, version, gpu, a0, a1, a2, a3, a4 FROM fits WHERE at = (
            SELECT MAX(later.at) FROM fits AS later
            WHERE later.model = fits.model AND later.version = fits.version AND later.gpu = fits.gpu
        )
        """
    )
    return {Model(*row[:3]): Coefficients(*row[3:]) for row in rows}


class Bill:
    """What is written of it. Remembers the numbers of the lines it adds to."""

    def __init__(self) -> None:
        self._lines: dict[Line, int] = {}
        self._label: int | None = None

    def forget(self) -> None:
        """After a transaction that was taken back."""
        self._lines.clear()

    def close(
        self, change: Change, worker: str, piece: Piece, cost: int, busy_ns: int, shares: Mapping[Key, int], now: float
    ) -> None:
        start = piece.start / 1000
        window = {"start": start, "end": piece.end / 1000, "hourly": piece.hourly, "cost": cost}
        change.add(_WINDOW, [{**window, "worker": worker, "busy_ns": busy_ns, "now": now}])
        self._add(change, worker, piece, shares)

    def reopen(
        self, change: Change, worker: str, piece: Piece, busy_ns: int, shares: Mapping[Key, int], now: float
    ) -> bool:
        """Adds the differences to what was shared out before; whether there are any."""
        start = piece.start / 1000
        query = 'SELECT line, label, cost_nanousd FROM shares WHERE worker = :worker AND "start" = :start'
        differences = {self._key(change, worker, piece, key): share for key, share in shares.items()}
        for line, label, cost in change.rows(query, {"worker": worker, "start": start}):
            key = Key(int(line), int(label), "")
            differences[key] = differences.get(key, 0) - int(cost)
        change.add(_BUSY, [{"worker": worker, "start": start, "busy_ns": busy_ns, "now": now}])
        changed = {key: difference for key, difference in differences.items() if difference}
        self._add(change, worker, piece, changed)
        return bool(changed)

    def billed(self, change: Change, worker: str, through: float) -> None:
        change.add(_BILLED, [{"worker": worker, "through": through}])

    def on_time(self, change: Change, late: Iterable[Late]) -> None:
        """They are in the bill now."""
        rows = [one._asdict() for one in late]
        change.add('DELETE FROM late WHERE worker = :worker AND "start" = :start AND "end" = :end', rows)

    def fitted(self, change: Change, of: Model, fit: Fit, at: float) -> None:
        change.add(_FIT, [{**of._asdict(), **fit.coefficients._asdict(), "at": at, "n": fit.n, "r2": fit.r2}])

    def prune(self, change: Change, worker: str, before: float) -> None:
        """Shares of windows that will not be opened again."""
        row: Mapping[str, Value] = {"worker": worker, "before": before}
        change.add('DELETE FROM shares WHERE worker = :worker AND "start" < :before', [row])

    def _add(self, change: Change, worker: str, piece: Piece, shares: Mapping[Key, int]) -> None:
        rows: list[dict[str, Value]] = []
        hour, start = piece.start // HOUR_MS * 3600, piece.start / 1000
        for key, cost in shares.items():
            line, label, _ = self._key(change, worker, piece, key)
            rows.append({"worker": worker, "start": start, "hour": hour, "line": line, "label": label, "cost": cost})
        rows.sort(key=lambda row: (row["line"], row["label"]))
        if rows:
            change.add(_SHARE, [_without(row, "hour") for row in rows])
            change.add(_ALLOCATION, [_without(row, "worker", "start") for row in rows])

    def _key(self, change: Change, worker: str, piece: Piece, key: Key) -> Key:
        """With the number of a line of the bill's own where it has none."""
        if key.line:
            return key._replace(tenant="")
        line = Line(key.tenant, "", "", piece.model, piece.version, "", "", worker, "gpu_time")
        if line not in self._lines:
            names = line._asdict()
            change.add(f"INSERT INTO lines ({_LINE_COLUMNS}) VALUES ({_LINE_VALUES}) ON CONFLICT DO NOTHING", [names])
            query = f"SELECT id FROM lines WHERE ({_LINE_COLUMNS}) = ({_LINE_VALUES})"
            self._lines[line] = int(change.rows(query, names)[0][0])
        if self._label is None:
            query = "SELECT id FROM labels WHERE model_asked = '' AND labels.user = '' AND tags = ''"
            self._label = int(change.rows(query)[0][0])
        return Key(self._lines[line], self._label, "")


def _without(row: Mapping[str, Value], *names: str) -> dict[str, Value]:
    return {name: value for name, value in row.items() if name not in names}
