"""SQL: what was seen of workers, and the attempts that were there."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from gateway.attribution.timeline import Sight
from gateway.ledger.store import Snapshot

LONGEST = 2 * 3600.0  # seconds of an attempt that still counts in the windows long after its beginning
FULL = 0.9  # KV usage, above which an engine turns requests away or throws out what it has begun
CACHED = 4  # windows whose attempts are kept at hand

_SIGHT = "at, hourly, model, version, in_flight, running, waiting, kv_usage"


class Entry(NamedTuple):
    """An attempt with its corrections. `tenant` is whose it was; times are Unix seconds."""

    line: int
    label: int
    tenant: str
    opened: float
    ttft: float | None
    duration: float
    prompt: int
    cached: int
    output: int


class Slot(NamedTuple):
    """The attempts of one window, by worker; `began` is how many rows began in it."""

    entries: dict[str, list[Entry]]
    began: int


def workers(ledger: Snapshot) -> Iterator[str]:
    """All that were ever read, one seek each."""
    after = ""
    while True:
        found = ledger.rows("SELECT MIN(worker) FROM readings WHERE worker > :after", {"after": after})[0][0]
        if found is None:
            return
        after = str(found)
        yield after


def first_paid(ledger: Snapshot, worker: str, after: float) -> float | None:
    """When it was first read at an hourly rate, after a moment."""
    rows = ledger.rows(
        "SELECT at FROM readings WHERE worker = :worker AND at > :after AND hourly > 0 ORDER BY at LIMIT 1",
        {"worker": worker, "after": after},
    )
    return float(rows[0][0]) if rows else None


def last_seen(ledger: Snapshot, worker: str) -> float:
    rows = ledger.rows("SELECT MAX(at) FROM readings WHERE worker = :worker", {"worker": worker})
    return float(rows[0][0] or 0.0)


def sights(ledger: Snapshot, worker: str, start: float, end: float) -> list[Sight]:
    """Those in [start, end), the last one before and the first one after."""
    values = {"worker": worker, "start": start, "end": end}
    query = f"SELECT {_SIGHT} FROM readings WHERE worker = :worker AND"
    rows = ledger.rows(f"{query} at <= :start ORDER BY at DESC LIMIT 1", values)
    rows += ledger.rows(f"{query} at > :start AND at < :end ORDER BY at", values)
    rows += ledger.rows(f"{query} at >= :end ORDER BY at LIMIT 1", values)
    return [
        Sight(
            round(at * 1000), int(hourly), str(model), str(version), bool(flying or running or waiting),
            bool(waiting > 0 or usage > FULL),
        )
        for at, hourly, model, version, flying, running, waiting, usage in rows
    ]  # fmt: skip


class Attempts:
    """The attempts of windows. One that has been read stays at hand for the next, which needs those that go on."""

    def __init__(self) -> None:
        self._lines: dict[int, tuple[str, str]] = {}  # number -> tenant, worker
        self._slots: OrderedDict[float, Slot] = OrderedDict()

    def forget(self) -> None:
        self._slots.clear()

    def within(self, ledger: Snapshot, start: float, end: float) -> Slot:
        """Those that overlap [start, end). All windows must be of one length."""
        slot = self._slots.get(start)
        if slot is None:
            before = self._slots.get(start - (end - start))
            slot = self._read(ledger, start, end, before)
            self._slots[start] = slot
            while len(self._slots) > CACHED:
                self._slots.popitem(last=False)
        return slot

    def _read(self, ledger: Snapshot, start: float, end: float, before: Slot | None) -> Slot:
        entries: defaultdict[str, list[Entry]] = defaultdict(list)
        if before is None:
            for worker, entry in self._opened(ledger, start - LONGEST, start, start)[0]:
                entries[worker].append(entry)
        else:
            for worker, some in before.entries.items():
                entries[worker] += [entry for entry in some if entry.opened + entry.duration > start]
        found, count = self._opened(ledger, start, end, start)
        for worker, entry in found:
            entries[worker].append(entry)
        return Slot(dict(entries), count)

    def _opened(
        self, ledger: Snapshot, since: float, until: float, after: float
    ) -> tuple[list[tuple[str, Entry]], int]:
        """Attempts that began in [since, until) and ended at `after` or later, with their workers; and how many rows
        there are that began then."""
        known: dict[tuple[str, int], tuple[str, Entry]] = {}
        corrections: list[tuple[tuple[str, int], tuple[float, int, int, int]]] = []
        count = 0
        for (
            request,
            number,
            correction,
            line,
            label,
            opened,
            ttft,
            duration,
            outcome,
            prompt,
            cached,
            output,
        ) in ledger.stream(
            """
                SELECT request_id, number, correction, line, label, opened_at, ttft_seconds, duration_seconds, outcome,
                    prompt_tokens, cached_tokens, output_tokens
                FROM entries WHERE opened_at >= :since AND opened_at < :until
                    AND (opened_at >= :after OR opened_at + duration_seconds > :after OR correction > 0)
                """,
            {"since": since, "until": until, "after": after},
        ):
            count += 1
            if correction:
                corrections.append(((request, number), (duration, prompt, cached, output)))
                continue
            if outcome in ("failed", "rejected") and not output:  # no work was done
                continue
            names = self._lines.get(line)
            if names is None:
                names = self._name(ledger, line)
            tenant, worker = names
            if worker:
                entry = Entry(line, label, tenant, opened, ttft, duration, prompt, cached, output)
                known[request, number] = worker, entry
        for key, (duration, prompt, cached, output) in corrections:
            if key in known:
                worker, entry = known[key]
                known[key] = (
                    worker,
                    entry._replace(
                        duration=entry.duration + duration,
                        prompt=entry.prompt + prompt,
                        cached=entry.cached + cached,
                        output=entry.output + output,
                    ),
                )
        return list(known.values()), count

    def _name(self, ledger: Snapshot, line: int) -> tuple[str, str]:
        for number, tenant, worker in ledger.rows("SELECT id, tenant, worker FROM lines"):
            self._lines[int(number)] = str(tenant), str(worker)
        return self._lines[line]
