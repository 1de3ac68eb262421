"""The gateway's side of the settler: started with it, started again when it ends, ended after it."""

from __future__ import annotations

import logging
import os
import select
import subprocess
import sys
import time
from contextlib import suppress

from gateway.ledger.journal.reader import journals
from gateway.settler.orders import Orders
from gateway.settler.process import END_SECONDS

logger = logging.getLogger("tollgate.settler")

RESTART_SECONDS = 1.0  # between two starts
CATCH_UP_SECONDS = 5.0  # what a start waits for what killed processes left behind, at most
LEAVE_SECONDS = END_SECONDS + 2.0


class SettlerHost:
    """One settler process. All calls from one thread."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._leaving: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """When killed processes left journals, waits until they are settled, within bounds: budgets are read from the
        ledger next."""
        left = bool(journals(self._orders.metering.journal))
        caught_up = self._spawn()
        try:
            if left and not select.select([caught_up], [], [], CATCH_UP_SECONDS)[0]:
                logger.warning("what killed processes left in the journal is not in the ledger yet: serving without it")
        finally:
            os.close(caught_up)

    def look_after(self) -> None:
        """Starts it again when it has ended."""
        process = self._process
        self._leaving = [one for one in self._leaving if one.poll() is None]
        if process is None or process.poll() is None or time.monotonic() - self._started < RESTART_SECONDS:
            return
        logger.error("the settler ended with %d: starting another", process.returncode)
        os.close(self._spawn())

    def revise(self, orders: Orders) -> None:
        """After a reload of the configuration: a settler that is concerned is replaced by one that knows."""
        revised = self._orders.revised(orders)
        if revised != self._orders:
            self._orders = revised
            self._dismiss()
            os.close(self._spawn())

    def stop(self) -> bool:
        """Lets it settle what is left; False when that takes too long. What is then left waits for the next start."""
        self._dismiss()
        deadline = time.monotonic() + LEAVE_SECONDS
        complete = True
        for process in self._leaving:
            try:
                complete = process.wait(max(0.0, deadline - time.monotonic())) == 0
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                complete = False
        return complete

    def _dismiss(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            self._leaving.append(process)

    def _spawn(self) -> int:
        """Gives the descriptor on which it says that it has caught up."""
        ours, theirs = os.pipe()
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "gateway.settler", str(theirs)], stdin=subprocess.PIPE, pass_fds=(theirs,)
            )
        finally:
            os.close(theirs)
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended already, and is started again
            process.stdin.write(self._orders.line())
            process.stdin.flush()
        self._process, self._started = process, time.monotonic()
        return ours
