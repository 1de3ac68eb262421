"""The settler as a process: its turn, its loop, its end."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.ledger.store import LedgerError
from gateway.settler.keeper import Keeper
from gateway.settler.orders import Orders
from gateway.settler.settler import FIRST_RETRY, LAST_RETRY, Settler
from gateway.settler.sinks import open_consumer, open_sink
from gateway.settler.status import Status, read_status, write_status

if TYPE_CHECKING:
    from gateway.settler.consumer import Consumer

logger = logging.getLogger("tollgate.settler")

TURN = "settler.lock"  # held by the one that works
POLL_SECONDS = 0.1  # between two looks into the journals, when nothing is new
STATUS_SECONDS = 1.0  # between two status files when nothing is new
NEWS_SECONDS = 0.2  # and when something is
END_SECONDS = 4.0  # for what is left to be settled at the end
LEAVE_SECONDS = 2.0  # for what is done beside it to end


def run(orders: Orders, stop: threading.Event, *, on_caught_up: Callable[[], None] = lambda: None) -> bool:
    """Settles until `stop`, then what is left, for at most END_SECONDS; False when something still is. `on_caught_up`
    is called once, when all that there was at the start is in the database. Raises LedgerError when the journals'
    directory can not be used."""
    root = orders.metering.journal
    with ExitStack() as ends:
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            turn = _turn(root, stop)
        except OSError as error:
            raise LedgerError(
                f"the journal {root} cannot be written ({error.strerror}): make it a directory that this user may "
                "write, with room on its disk, or name another under `metering: {journal: …}`"
            ) from error
        if turn is None:
            return True
        ends.callback(os.close, turn)
        settler = _opened(orders, stop)
        if settler is None:
            return False
        ends.callback(settler.close)
        consumer, keeper = open_consumer(orders), Keeper(orders)
        if consumer is not None:
            ends.enter_context(_beside("consumer", consumer.run))
        ends.enter_context(_beside("keeper", keeper.run))
        return _work(root, settler, keeper, consumer, stop, on_caught_up)


@contextmanager
def _beside(name: str, work: Callable[[threading.Event], None]) -> Generator[None]:
    """A thread of the name that works until the block ends."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(LEAVE_SECONDS)


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
    root = orders.metering.journal
    before = read_status(root)  # what has been settled stays true
    while True:
        try:
            sink = open_sink(orders)
        except LedgerError as error:
            if str(error) != said:
                logger.error("%s. Records wait in the journal", error)
                said = str(error)
            now = time.time()
            lag = before.lag_seconds + max(0.0, now - before.at) if before.at else 0.0
            write_status(root, before._replace(at=now, pid=os.getpid(), lag_seconds=lag, last_error=said))
        else:
            if said:
                logger.warning("the ledger is there again")
            return Settler(root, sink)
        if stop.wait(retry):
            return None
        retry = min(2 * retry, LAST_RETRY)


def _work(
    root: Path,
    settler: Settler,
    keeper: Keeper,
    consumer: Consumer | None,
    stop: threading.Event,
    on_caught_up: Callable[[], None],
) -> bool:
    told, news, has_caught_up = 0.0, False, False
    deadline = float("inf")
    while True:
        if stop.is_set() and deadline == float("inf"):
            deadline = time.monotonic() + END_SECONDS
            settler.look_now()
        more = settler.step()
        now = time.monotonic()
        news = news or more
        is_done = not more and settler.is_idle
        if is_done and not has_caught_up:
            has_caught_up = True
            on_caught_up()
        ends = now >= deadline or (stop.is_set() and is_done)
        if ends or now - told >= (NEWS_SECONDS if news else STATUS_SECONDS):
            told, news = now, False
            keeper.progress = settler.progress
            write_status(root, _status(settler, keeper, consumer))
        if ends:
            return is_done
        if not more:
            time.sleep(POLL_SECONDS) if stop.is_set() else stop.wait(POLL_SECONDS)


def _status(settler: Settler, keeper: Keeper, consumer: Consumer | None) -> Status:
    status = settler.status._replace(
        pid=os.getpid(), drift=dict(keeper.drift), shared_out_through=keeper.shared_out_through
    )
    if consumer is None:
        return status
    far = consumer.status
    return status._replace(
        set_aside=far.set_aside,
        claimed=far.claimed,
        streamed=far.waiting,
        last_error=status.last_error or far.last_error,
    )
