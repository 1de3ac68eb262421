"""`tollgate settle`: the settler by itself, where gateways leave it to another process or machine."""

from __future__ import annotations

import argparse
import signal
import threading
from contextlib import suppress

from gateway.cli.common import Commands, add_command, add_config, complain

_DETAILS = """\
Brings the journals of this machine into the ledger, and what other machines sent through Redis; audits, shares out the
workers' cost, and removes what is past its retention. `tollgate serve` starts one of its own, unless
`metering: {settler: external}`. Any number may run; on one directory of journals one works and the others stand by.
A PostgreSQL or Redis that is away is waited for: meanwhile records wait in the journals. SIGTERM ends it; what is not
settled then is settled by the next one.

examples:
  tollgate settle
  tollgate settle --config /etc/tollgate
"""


def register(commands: Commands) -> None:
    parser = add_command(commands, "settle", "bring journals into the ledger", _DETAILS, run)
    add_config(parser)


def run(arguments: argparse.Namespace) -> int:
    from gateway.config import ConfigError, load
    from gateway.ledger.location import NONE
    from gateway.ledger.opening import open_store
    from gateway.ledger.store import LedgerAway, LedgerError
    from gateway.settler.orders import Orders
    from gateway.settler.process import run as settle
    from gateway.settler.say import logging_json

    try:
        table = load(arguments.config)
        if table.settings.ledger == NONE:
            complain("there is nothing to settle: gateway.yaml says `ledger: none`")
            return 1
        with suppress(LedgerAway):  # it is waited for, as a gateway's own settler does
            open_store(table.settings.ledger).close()
    except (ConfigError, LedgerError) as error:
        complain(error)
        return 1
    stop = threading.Event()

    def end(_: int, __: object) -> None:
        stop.set()

    before = {signum: signal.signal(signum, end) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        with logging_json():
            return 0 if settle(Orders.of(table), stop) else 1
    except LedgerError as error:
        complain(error)
        return 1
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
