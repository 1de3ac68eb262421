"""What is done with the ledger beside writing it: workers' cost is shared out, tokens are audited, days are summed up,
and what is past its retention is removed. A thread of the settler, so that nothing of it holds up a row."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from gateway.attribution.job import Attributor, Terms
from gateway.attribution.split import Policy
from gateway.audit.auditor import Auditor
from gateway.ledger.days import DaySums
from gateway.ledger.location import is_postgresql
from gateway.ledger.opening import open_store
from gateway.ledger.retention import prune
from gateway.ledger.store import LedgerError, Store
from gateway.settler.orders import Orders
from gateway.settler.progress import Progress

logger = logging.getLogger("tollgate.settler")

STEP_SECONDS = 1.0  # between two looks whether there is something to do
BUSY_SECONDS = 0.05  # while there is more to do: others write the ledger too
TIDY_SECONDS = 600.0  # between two looks for days to be summed up and rows to be removed
LAST_RETRY = 30.0  # seconds between two tries while the ledger is away, doubling up to there


class _Jobs(NamedTuple):
    store: Store
    attributor: Attributor
    auditor: Auditor


class Keeper:
    def __init__(self, orders: Orders) -> None:
        self.progress: Progress | None = None  # told by the settler
        self.drift: Mapping[str, float] = {}  # by worker
        self.shared_out_through = 0.0  # Unix seconds; 0 before the first
        self._orders = orders
        self._days = DaySums()
        self._tidied = float("-inf")

    def run(self, stop: threading.Event) -> None:
        jobs: _Jobs | None = None
        pause, said = STEP_SECONDS, ""
        while not stop.wait(pause):
            try:
                if jobs is None:
                    jobs = self._jobs()
                pause = BUSY_SECONDS if self._step(jobs) else STEP_SECONDS
                said = ""
            except LedgerError as error:
                if str(error) != said:
                    said = str(error)
                    logger.warning("%s. Its cost is shared out later", said)
                pause = min(2 * max(pause, STEP_SECONDS), LAST_RETRY)
            except Exception:  # a fault of ours, which must not end what settles
                logger.exception("the ledger is not kept as it should be")
                pause = LAST_RETRY
        if jobs is not None:
            jobs.auditor.close()
            jobs.store.close()

    def _step(self, jobs: _Jobs) -> bool:
        """True when there is more to do at once."""
        progress, now = self.progress, time.time()
        if progress is None:
            return False
        self.drift = jobs.auditor.step(now, through=progress.through, own=progress.sources)
        shared = jobs.attributor.step(now, progress.through)
        self.shared_out_through = shared.through or 0.0
        if shared.closed or shared.reopened:
            return True
        if now - self._tidied < TIDY_SECONDS:
            return False
        if self._days.step(jobs.store, now) or prune(jobs.store, now, self._orders.metering.retention):
            return True
        self._tidied = now
        return False

    def _jobs(self) -> _Jobs:
        orders = self._orders
        metering, shared = orders.metering, is_postgresql(orders.ledger)
        opened = partial(open_store, orders.ledger, make=False)  # of their own: the settler's sink may be no database
        policy = Policy(metering.idle, orders.reservations)
        terms = Terms(metering.window, metering.readings, policy, orders.gpus)
        auditor = Auditor(opened, metering.audit_every, metering.audit_drift, shared=shared, prices=orders.prices)
        store = opened()
        return _Jobs(store, Attributor(store, terms), auditor)
