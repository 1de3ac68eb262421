"""The process that a gateway starts beside it. Its standard input has its orders, and ends when the gateway does."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
from contextlib import suppress

from gateway.ledger.store import LedgerError
from gateway.settler.orders import Orders
from gateway.settler.process import run
from gateway.settler.say import logging_json

INCOMPLETE = 3  # exit status when journals hold what is not in the ledger
NICENESS = 5  # requests go first where cores are few, and yet a journal must not grow while they do
CAUGHT_UP = b"."  # said on the descriptor that is named as the only argument


def main() -> int:
    told = int(sys.argv[1])
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):  # what a terminal says is for the gateway to hear
        signal.signal(ignored, signal.SIG_IGN)
    os.nice(NICENESS)
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)  # rows come by the thousand and leave no cycle: a tenth of all CPU less
    orders = Orders.read(sys.stdin.buffer.readline())
    stop = threading.Event()
    threading.Thread(target=_wait_for_end, args=(stop,), daemon=True).start()

    def caught_up() -> None:
        with suppress(BrokenPipeError):  # nobody waits for it
            os.write(told, CAUGHT_UP)
        os.close(told)

    with logging_json():
        try:
            return 0 if run(orders, stop, on_caught_up=caught_up) else INCOMPLETE
        except LedgerError as error:
            logging.getLogger("tollgate.settler").error("%s", error)
            return 1
        except Exception:
            logging.getLogger("tollgate.settler").exception("the settler failed")
            return 1


def _wait_for_end(stop: threading.Event) -> None:
    while os.read(0, 4096):  # not of `sys.stdin`, whose lock this thread would hold at the interpreter's end
        pass
    stop.set()


if __name__ == "__main__":
    sys.exit(main())
