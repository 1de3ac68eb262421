"""The settler as a process: its turn, its loop, its end."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from gateway.audit.auditor import Auditor
from gateway.ledger.opening import open_store
from gateway.ledger.store import LedgerError
from gateway.settler.orders import Orders
from gateway.settler.settler import FIRST_RETRY, LAST_RETRY, Settler
from gateway.settler.sinks import consuming, open_sink
from gateway.settler.status import Status, write_status

logger = logging.getLogger("tollgate.settler")

TURN = "settler.lock"  # held by the one that works
POLL_SECONDS = 0.05  # between two looks into the journals, when nothing is new
STATUS_SECONDS = 1.0  # between two status files when nothing is new
NEWS_SECONDS = 0.1  # and when something is
AUDIT_SECONDS = 1.0  # between two looks whether there is something to audit
END_SECONDS = 4.0  # for what is left to be settled at the end


def run(orders: Orders, stop: threading.Event, *, on_caught_up: Callable[[], None] | None = None) -> bool:
    """Settles until `stop`, then what is left, for at most END_SECONDS; False when something still is. `on_caught_up`
    is called once, when all that there was at the start is in the database."""
    root = orders.metering.journal
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    turn = _turn(root, stop)
    if turn is None:
        return True
    try:
        settler = _opened(orders, stop)
        if settler is None:
            return False
        try:
            metering = orders.metering
            # A store of its own, for the sink may be no database.
            auditor = Auditor(lambda: open_store(orders.ledger), metering.audit_every, metering.audit_drift)
            with closing(auditor), consuming(orders):
                return _work(root, settler, auditor, stop, on_caught_up)
        finally:
            settler.close()
    finally:
        os.close(turn)


def _turn(root: Path, stop: threading.Event) -> int | None:
    """Waits to be the only one; None when asked to stop before."""
    descriptor = os.open(root / TURN, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if stop.wait(POLL_SECONDS):
                os.close(descriptor)
                return None
        else:
            return descriptor


def _opened(orders: Orders, stop: threading.Event) -> Settler | None:
    """With its sink open, however long that takes; None when asked to stop before."""
    retry, said = FIRST_RETRY, ""
    while True:
        try:
            return Settler(orders.metering.journal, open_sink(orders))
        except LedgerError as error:
            if str(error) != said:
                logger.error("%s. Records wait in the journal", error)
                said = str(error)
            write_status(orders.metering.journal, Status(at=time.time(), pid=os.getpid(), last_error=said))
        if stop.wait(retry):
            return None
        retry = min(2 * retry, LAST_RETRY)


def _work(
    root: Path, settler: Settler, auditor: Auditor, stop: threading.Event, on_caught_up: Callable[[], None] | None
) -> bool:
    told, news = 0.0, False
    audited = 0.0
    deadline = float("inf")
    while True:
        if stop.is_set() and deadline == float("inf"):
            deadline = time.monotonic() + END_SECONDS
            settler.look_now()
        more = settler.step()
        now = time.monotonic()
        news = news or more
        if on_caught_up is not None and not more and settler.is_idle:
            on_caught_up()
            on_caught_up = None
        if now - told >= (NEWS_SECONDS if news else STATUS_SECONDS):
            told, news = now, False
            write_status(root, settler.status._replace(pid=os.getpid()))
        if now - audited >= AUDIT_SECONDS and settler.is_idle and not stop.is_set():
            audited = now
            _audit(settler, auditor)
        if now >= deadline or (stop.is_set() and not more and settler.is_idle):
            write_status(root, settler.status._replace(pid=os.getpid()))
            return settler.is_idle
        if not more:
            time.sleep(POLL_SECONDS) if stop.is_set() else stop.wait(POLL_SECONDS)


def _audit(settler: Settler, auditor: Auditor) -> None:
    try:
        settler.drift = auditor.step(time.time(), through=settler.watermark)
    except LedgerError as error:  # its own way back; the settler says so when it is the database that is away
        logger.warning("the ledger was not audited: %s", error)
