"""What is done with the ledger beside writing it: audits, and what follows from them. A thread of the settler, so that
nothing of it holds up a row."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from functools import partial

from gateway.audit.auditor import Auditor
from gateway.ledger.location import is_postgresql
from gateway.ledger.opening import open_store
from gateway.ledger.store import LedgerError
from gateway.settler.orders import Orders
from gateway.settler.progress import Progress
from gateway.table import Price

logger = logging.getLogger("tollgate.settler")

STEP_SECONDS = 1.0  # between two looks whether there is something to do
LAST_RETRY = 30.0  # seconds between two while the ledger is away, doubling up to there


class Keeper:
    def __init__(self, orders: Orders) -> None:
        self.progress: Progress | None = None  # told by the settler
        self.drift: Mapping[str, float] = {}
        self.shared_out_through = 0.0  # Unix seconds
        self._orders = orders

    def run(self, stop: threading.Event) -> None:
        metering = self._orders.metering
        pause, said = STEP_SECONDS, ""
        opened = partial(open_store, self._orders.ledger, make=False)  # its own: the sink may be no database
        shared = is_postgresql(self._orders.ledger)
        prices = {worker: Price(*price) for worker, price in self._orders.prices.items()}
        auditor = Auditor(opened, metering.audit_every, metering.audit_drift, shared=shared, prices=prices)
        with closing(auditor):
            while not stop.wait(pause):
                try:
                    self._step(auditor)
                    pause, said = STEP_SECONDS, ""
                except LedgerError as error:
                    if str(error) != said:
                        said = str(error)
                        logger.warning("%s. Audits wait", said)
                    pause = min(2 * pause, LAST_RETRY)
                except Exception:  # a fault of ours, which must not end what settles
                    logger.exception("the ledger is not kept as it should be")
                    pause = LAST_RETRY

    def _step(self, auditor: Auditor) -> None:
        progress = self.progress
        if progress is None:
            return
        self.drift = auditor.step(time.time(), through=progress.through, own=progress.sources)
