"""`tollgate keys list`: every API key, of the YAML and of the store."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

from gateway.cli.common import complain
from gateway.cli.keys_store import with_store
from gateway.config.compile import compile_keys
from gateway.config.draft import draft
from gateway.config.problems import ConfigError
from gateway.config.source import read
from gateway.keyring.listing import Row, rows
from gateway.keyring.merge import Merger
from gateway.keyring.record import KeyName
from gateway.keyring.store import KeyStore, Snapshot, StoreAway


def run(arguments: argparse.Namespace) -> int:
    known = draft(read(arguments.config, os.environ))

    async def look(store: KeyStore) -> tuple[Snapshot, dict[KeyName, float]]:
        return await store.load(), await store.uses()

    try:
        snapshot, uses = with_store(known, look)
    except (StoreAway, ConfigError) as error:
        complain(error)
        return 1
    tenants, keys = compile_keys(known)
    now, records = time.time(), snapshot.records.values()
    merged = Merger().merge(keys, tenants, records)
    found = rows(keys.values(), records, tenants, merged.shadowed, uses, now)
    if arguments.tenant is not None:
        found = [one for one in found if one["tenant"] == arguments.tenant]
    if arguments.format == "json":
        print(json.dumps({"keys": found}, indent=2, ensure_ascii=False))
    else:
        _print_table(found)
    return 0


def _print_table(found: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for name in ("tenant", "id", "source", "state", "expires", "last used", "restricted to"):
        table.add_column(name)
    for one in found:
        state = one["state"] + (f" since {one['revoked']}" if one["revoked"] else "")
        if one["earlier_secrets_until"]:
            state += f", earlier secret until {max(one['earlier_secrets_until'])}"
        cells = (one["tenant"], one["id"], one["source"], state, one["expires"] or "never", one["last_used"] or "never")
        table.add_row(*cells, _restrictions(one))
    # A pipe has no width, and a name that is cut off cannot be copied.
    Console(width=None if sys.stdout.isatty() else 1000, markup=False, highlight=False).print(table)


def _restrictions(one: Row) -> str:
    words = [f"{name} {', '.join(one[name]) or 'none'}" for name in ("models", "endpoints") if one[name] is not None]
    words += [f"{name} {value}" for name, value in one["limits"].items()]
    if one["priority"] is not None:
        words.append(f"priority {one['priority']}")
    return "; ".join(words) or "–"
