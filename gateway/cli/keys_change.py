"""`tollgate keys rotate` and `revoke`: keys of the store. A mistake elsewhere in the YAML does not stand in the way."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.cli.common import complain
from gateway.cli.keys_store import with_store
from gateway.config.draft import draft
from gateway.config.keys import key_place
from gateway.config.problems import ConfigError
from gateway.config.source import read
from gateway.config.units import UnitError, parse_span
from gateway.errors import GatewayError
from gateway.keyring import desk
from gateway.keyring.listing import moment
from gateway.keyring.store import KeyStore, StoreAway

T = TypeVar("T")


def rotate(arguments: argparse.Namespace) -> int:
    tenant, key_id = arguments.tenant, arguments.id
    try:
        grace = parse_span(arguments.grace)
    except UnitError as error:
        complain(f"--grace: {error}")
        return 2
    made = _change(arguments, lambda store: desk.rotate(store, tenant, key_id, grace))
    if made is None:
        return 1
    earlier = made.record.retired
    until = (
        f"its earlier secret is let in until {moment(earlier[-1].until)}"
        if earlier
        else "its earlier secret is not let in"
    )
    print(f"{key_id} of {tenant} has a new secret; {until}. The key, shown only now:", file=sys.stderr)
    print(made.key)
    return 0


def revoke(arguments: argparse.Namespace) -> int:
    record = _change(arguments, lambda store: desk.revoke(store, arguments.tenant, arguments.id))
    if record is None:
        return 1
    print(
        f"{record.id} of {record.tenant} is revoked since {moment(record.revoked)}: no gateway lets it in 2 s from then"
    )
    return 0


def _change(arguments: argparse.Namespace, work: Callable[[KeyStore], Awaitable[T]]) -> T | None:
    """What `work` gives; None when it could not be done, which has been said."""
    known = draft(read(arguments.config, os.environ))
    place = key_place(known, arguments.tenant, arguments.id)
    if place is not None:
        complain(desk.written(arguments.tenant, arguments.id, place))
        return None
    try:
        return with_store(known, work)
    except (StoreAway, ConfigError, GatewayError) as error:
        complain(error)
        return None
