"""The job: holds the ledger against the engines' counters again and again, corrects it, and says how far off it was."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

from gateway.audit.drift import standings
from gateway.audit.examine import LONGEST_SECONDS, Findings, Terms, examine
from gateway.audit.spans import CALM_SECONDS
from gateway.ledger import audits
from gateway.ledger.audits import Audit
from gateway.ledger.store import Batch, Snapshot, Store
from gateway.table import Price

logger = logging.getLogger("tollgate.audit")

STEP_SECONDS = 0.5  # that one step may take, unless a single worker takes longer
REST_SECONDS = 300.0  # between two audits that found nothing to correct
NO_PRICES: Mapping[str, Price] = MappingProxyType({})


class Auditor:
    """Of the ledger that `open_store` opens at the first step; all calls from one thread.

    `every` seconds at most lie between two audits of a worker; drift above the share `alarm` is logged. `prices` are
    those of workers that are paid by the token.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        every: float,
        alarm: float,
        *,
        shared: bool = False,
        prices: Mapping[str, Price] = NO_PRICES,
    ) -> None:
        """`shared`: processes that are not the caller's may use the same workers and write the same ledger."""
        self._open_store = open_store
        self._store: Store | None = None
        self._every = every
        self._alarm = alarm
        self._shared = shared
        self._prices = prices
        self._examined: dict[str, float] = {}  # the latest reading that was looked at
        self._left: list[str] = []  # workers that this round has not come to
        self._drift: dict[str, float] = {}

    def step(self, now: float, *, through: float, own: Collection[str] = ()) -> Mapping[str, float]:
        """Audits what there is to audit: the drift of each worker over the last `every` seconds, as a share.

        `through`: no attempt that began before it, of the caller's journals `own`, is still to come into the ledger.
        May raise LedgerError; nothing is lost by that, and what is done twice comes out the same.
        """
        if self._store is None:
            self._store = self._open_store()
        store = self._store
        began = time.monotonic()
        wrote = False
        if not self._left:
            with store.snapshot() as ledger:
                self._left = audits.workers(ledger)
        while self._left and time.monotonic() - began < STEP_SECONDS:
            worker = self._left[-1]
            with store.snapshot() as ledger:
                found = self._look(ledger, worker, now, through, own if self._shared else None)
            self._write(store, found)
            wrote = wrote or bool(found.audits)
            self._left.pop()
        if wrote or not self._left:
            with store.snapshot() as ledger:
                recent = audits.since(ledger, now - self._every)
            self._drift = {worker: standing.ratio for worker, standing in standings(recent).items()}
        return self._drift

    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    def _look(self, ledger: Snapshot, worker: str, now: float, through: float, own: Collection[str] | None) -> Findings:
        end = audits.last_end(ledger, worker) or 0.0
        examined = max(end, self._examined.get(worker, 0.0))
        calm = audits.last_calm(ledger, worker, examined, through)
        overdue = now - examined >= self._every
        if calm is None and not overdue:
            return Findings([], [])
        self._examined[worker] = through if calm is None else calm
        if calm is not None and not overdue:  # a look, before everything since the last audit is gone through
            after = max(end, calm - LONGEST_SECONDS)
            if audits.is_busy(ledger, worker, after, calm - CALM_SECONDS, calm):
                return Findings([], [])
        found = examine(ledger, worker, Terms(now, through, own, overdue, self._prices))
        if any(audit.estimated or not audit.exact for audit in found.audits):
            return found
        return found if found.audits and now - end >= min(self._every, REST_SECONDS) else Findings([], [])

    def _write(self, store: Store, found: Findings) -> None:
        """The corrections first: an audit that does not know of them would find nothing left over, and say so."""
        if found.corrections:
            store.write(Batch(attempts=found.corrections))
        if found.audits:
            with store.change() as change:
                audits.add(change, found.audits)
        for audit in found.audits:
            self._say(audit)

    def _say(self, audit: Audit) -> None:
        drift = abs(audit.drift_prompt) + abs(audit.drift_output)
        tokens = max(1, audit.engine_prompt + audit.engine_output, audit.ledger_prompt + audit.ledger_output)
        if audit.unobserved_seconds:
            logger.info("worker's counters began anew", extra={"fields": _fields(audit)})
        elif drift > self._alarm * tokens:
            logger.warning("ledger and worker differ", extra={"fields": _fields(audit)})


def _fields(audit: Audit) -> dict[str, object]:
    return {name: value for name, value in audit._asdict().items() if value not in ("", 0)}
