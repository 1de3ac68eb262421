"""The bill, kept up to date: closes windows that can not change any more, and shares out again those that did.

A window of a worker closes when every attempt that began before its end is in the ledger, and when the worker has been
seen after it (or has not been seen for so long that it may be gone: then its last moments are closed, and if it comes
back, the time between is `__unobserved__`). Each is one transaction that also says how far the bill is: whoever is
killed goes on there. Rows that come later than that leave a mark (the store's), and their windows are shared out again:
the differences are added, so that the sum stays the cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gateway.attribution import bill, load
from gateway.attribution.bill import Bill, Late, Model
from gateway.attribution.fit import Observations
from gateway.attribution.load import Attempts, Entry
from gateway.attribution.model import PRIOR, Coefficients
from gateway.attribution.split import Key, Policy, cost_until, split
from gateway.attribution.timeline import Piece, Sight, crowding, pieces
from gateway.attribution.window import share_out
from gateway.ledger.store import Change, Store
from gateway.table import configured

UNSEEN = 4.0  # readings that may be missing in a row
KEPT = 7 * 86_400.0  # seconds for which what comes late is still put right
FIT_EVERY = 600.0  # seconds between two fits that are written down
MOST_WINDOWS = 100  # closed in one step
MOST_LATE = 200  # late attempts looked at in one step
PRUNE_EVERY = 60  # windows between two removals of shares that are older than that
_MS = 1_000_000  # nanoseconds


class Terms(NamedTuple):
    """What the configuration says: seconds, and the kind of GPU of each worker."""

    window: float = 60.0
    readings: float = 5.0
    policy: Policy = Policy()
    gpus: Mapping[str, str] = {}


class Step(NamedTuple):
    """What a step did. `through` is how far the bill of the worker is that is furthest behind; None without one."""

    closed: int
    reopened: int
    through: float | None


class Attributor:
    """One for a ledger; all calls from one thread. A failed one has changed nothing and may be repeated."""

    def __init__(self, store: Store, terms: Terms) -> None:
        self._store = store
        self._window = max(1, round(terms.window * 1000))
        self._gap = round(UNSEEN * terms.readings * 1000)
        self._terms = terms
        self._attempts = Attempts()
        self._bill = Bill()
        self._coefficients: dict[Model, Coefficients] | None = None
        self._observations: dict[Model, Observations] = {}
        self._fitted: dict[Model, tuple[float, int]] = {}  # when it was, and from how many stretches
        self._looked: dict[str, float] = {}  # workers that were never paid for -> the time of their last reading then

    def step(self, now: float, watermark: float) -> Step:
        """Closes what can be closed, as far as one step goes; to be called again at once while it closes or reopens
        something. No attempt that began before `watermark` may be missing in the ledger. Raises LedgerError."""
        try:
            reopened = self._reopen(now)
            closed, behind = 0, list[float]()
            for worker, through in self._workers():
                reached = through
                while closed < MOST_WINDOWS and (after := self._close(worker, reached, now, watermark)) > reached:
                    reached = after
                    closed += 1
                behind.append(reached / 1000)
            return Step(closed, reopened, min(behind, default=None))
        except BaseException:
            self._bill.forget()
            self._attempts.forget()
            raise

    def _workers(self) -> list[tuple[str, int]]:
        """How far the bill of each is, in milliseconds; those behind come first."""
        found: list[tuple[str, int]] = []
        with self._store.snapshot() as ledger:
            if self._coefficients is None:
                self._coefficients = bill.fits(ledger)
            for worker in load.workers(ledger):
                at = bill.through(ledger, worker)
                if at is None:
                    last = load.last_seen(ledger, worker)
                    at = load.first_paid(ledger, worker, self._looked.get(worker, -1.0))
                    self._looked[worker] = last
                if at is not None:
                    self._looked.pop(worker, None)
                    found.append((worker, round(at * 1000)))
        return sorted(found, key=lambda one: (one[1] // self._window, one[0]))

    def _close(self, worker: str, through: int, now: float, watermark: float) -> int:
        """Closes the rest of the window that the bill of a worker is in, if that can be; how far it is then."""
        slot = through // self._window * self._window
        end = slot + self._window
        if end > watermark * 1000:
            return through
        with self._store.snapshot() as ledger:
            billed = bill.through(ledger, worker)
            if billed is not None and round(billed * 1000) > through:  # another settler was faster
                return round(billed * 1000)
            sights = load.sights(ledger, worker, through / 1000, end / 1000)
            last = sights[-1].at if sights else 0
            if last < end and (last <= through or now * 1000 - last <= self._gap):
                return through
            attempts = self._attempts.within(ledger, slot / 1000, end / 1000)
        entries = attempts.entries.get(worker, [])
        shared = [
            (piece, self._share(worker, entries, sights, piece)) for piece in pieces(sights, through, end, self._gap)
        ]
        reached = min(end, last)
        with self._store.change() as change:
            if bill.through(change, worker) != billed:
                return through
            if bill.began(change, slot / 1000, end / 1000) != attempts.began:  # more came meanwhile
                self._attempts.forget()
                return through
            for piece, (cost, busy_ns, shares) in shared:
                self._bill.close(change, worker, piece, cost, busy_ns, shares, now)
                self._refit(change, self._model(worker, piece), piece.end / 1000)
            self._bill.billed(change, worker, reached / 1000)
            if slot // self._window % PRUNE_EVERY == 0:
                self._bill.prune(change, worker, slot / 1000 - KEPT)
        return reached

    def _reopen(self, now: float) -> int:
        """Shares windows out again that attempts came too late for. How many of them changed."""
        with self._store.snapshot() as ledger:
            late = bill.late(ledger, MOST_LATE)
        if not late:
            return 0
        self._attempts.forget()  # they may miss there
        if self._coefficients is None:
            with self._store.snapshot() as ledger:
                self._coefficients = bill.fits(ledger)
        attempts = Attempts()
        slots = {slot for one in late for slot in self._slots(one)}
        changed = sum(self._share_again(late[0].worker, slot, attempts, now) for slot in sorted(slots))
        with self._store.change() as change:
            self._bill.on_time(change, late)
        return changed

    def _slots(self, late: Late) -> range:
        """The beginnings of windows that it lies in."""
        first, last = (int(at * 1000) // self._window for at in (late.start, min(late.end, late.start + load.LONGEST)))
        return range(first * self._window, (last + 1) * self._window, self._window)

    def _share_again(self, worker: str, slot: int, attempts: Attempts, now: float) -> int:
        start, end = slot / 1000, (slot + self._window) / 1000
        changed = 0
        with self._store.change() as change:
            windows = bill.windows(change, worker, start, end)
            if not windows:
                return 0
            entries = attempts.within(change, start, end).entries.get(worker, [])
            sights = load.sights(change, worker, start, end)
            for window in windows:
                found = pieces(sights, window.start, window.end, self._gap)
                if len(found) == 1 and found[0][:2] == window[:2]:  # else its readings are gone
                    _, busy_ns, shares = self._share(worker, entries, sights, found[0], window.cost)
                    changed += self._bill.reopen(change, worker, found[0], busy_ns, shares, now)
        return changed

    def _share(
        self, worker: str, entries: Sequence[Entry], sights: Sequence[Sight], piece: Piece, cost: int | None = None
    ) -> tuple[int, int, dict[Key, int]]:
        """Cost in nano-USD (or as given), busy nanoseconds, and who pays."""
        start, end = piece.start * _MS, piece.end * _MS
        model = self._model(worker, piece)
        c = (self._coefficients or {}).get(model, PRIOR)
        seen = self._observations.setdefault(model, Observations()) if cost is None and piece.observed else None
        if cost is None:
            cost = cost_until(piece.hourly, end) - cost_until(piece.hourly, start)
        users, busy = share_out(entries, c, piece.start / 1000, piece.end / 1000, crowding(sights, piece), seen)
        busy_ns = min(round(busy * 1e9), end - start)
        return cost, busy_ns, split(cost, busy_ns, end - start, users, self._terms.policy, observed=piece.observed)

    def _model(self, worker: str, piece: Piece) -> Model:
        return Model(piece.model, piece.version, self._terms.gpus.get(configured(worker, self._terms.gpus), ""))

    def _refit(self, change: Change, model: Model, at: float) -> None:
        """Now and then, and sooner while little is known."""
        seen = self._observations.get(model)
        if seen is None or self._coefficients is None:
            return
        fitted_at, fitted_from = self._fitted.get(model, (0.0, 0))
        if seen.n < 2 * fitted_from and at - fitted_at < FIT_EVERY:
            return
        fit = seen.fit()
        if fit is None or seen.n == fitted_from:
            return
        self._fitted[model] = at, seen.n
        self._coefficients[model] = fit.coefficients
        self._bill.fitted(change, model, fit, at)
        seen.fade()
