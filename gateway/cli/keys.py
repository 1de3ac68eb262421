"""`tollgate keys create`: a new API key for a tenant, shown once; the configuration keeps only its digest."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.cli.common import Commands, add_command, add_config, complain

if TYPE_CHECKING:
    from gateway.config.draft import Draft

_DETAILS = """\
The key goes to standard output and is never shown again; the YAML that lets it in goes to standard error, or straight
into the file that holds the tenant with --write. A line pasted under `admin: {keys: […]}` opens the admin API instead.

examples:
  tollgate keys create support
  tollgate keys create support --id laptop --write
  export OPENAI_API_KEY=$(tollgate keys create support --write)
"""


def register(commands: Commands) -> None:
    keys = add_command(commands, "keys", "manage API keys", "example:\n  tollgate keys create support\n", None)
    actions = keys.add_subparsers(title="commands", metavar="COMMAND", required=True)
    parser = add_command(actions, "create", "make an API key for a tenant", _DETAILS, run)
    parser.add_argument("tenant", metavar="TENANT", help="who it is for")
    parser.add_argument("--id", metavar="ID", help="what logs call the key; default: key-1, key-2, …")
    parser.add_argument("--write", action="store_true", help="write its digest into the tenant's file")
    add_config(parser)


def run(arguments: argparse.Namespace) -> int:
    import os

    from gateway.config.draft import draft
    from gateway.config.edit import EditError, insert_key, key_line
    from gateway.config.source import read
    from gateway.config.write import rewrite
    from gateway.config.written.base import NAME, NAME_REMEDY
    from gateway.tenancy.keys import digest, mint

    tenant, directory = str(arguments.tenant), Path(arguments.config)
    for name in (tenant, arguments.id):
        if name is not None and not re.fullmatch(NAME, name):
            complain(f"{name!r} cannot be a name: {NAME_REMEDY.format(64, '')}")
            return 2
    known = draft(read(directory, os.environ))
    taken = _key_ids(known, tenant)
    key_id: str = arguments.id or next(f"key-{n}" for n in range(1, len(taken) + 2) if f"key-{n}" not in taken)
    if key_id in taken:
        complain(f"{tenant} already has a key called {key_id}: choose another --id")
        return 1
    key = mint()
    sha256 = digest(key).hex()
    place = known.source.places.get(("tenants", tenant))
    if arguments.write:
        if place is None:
            names = ", ".join(known.tenants) or "none"
            complain(f"{directory} has no tenant {tenant} (it has {names}): write `tenants: {{{tenant}: {{}}}}` first")
            return 1
        try:
            rewrite(Path(place.file), lambda text: insert_key(text, tenant, key_id, sha256))
        except (EditError, OSError, UnicodeDecodeError) as error:
            complain(f"{place.file}: {error}; without --write you get the line to paste")
            return 1
        print(f"{key_id} of {tenant} is in {place.file}. The key, shown only now:", file=sys.stderr)
    elif place is not None:
        print(f"under `tenants.{tenant}.keys` in {place.file}:\n", file=sys.stderr)
        print(f"      - {key_line(key_id, sha256)}\n\nthe key, shown only now:", file=sys.stderr)
    else:
        print(f"{directory} has no tenant {tenant} yet; in a *.yaml file of it:\n", file=sys.stderr)
        print(f"tenants:\n  {tenant}:\n    keys:\n      - {key_line(key_id, sha256)}", file=sys.stderr)
        print("\nthe key, shown only now:", file=sys.stderr)
    print(key)
    return 0


def _key_ids(known: Draft, tenant: str) -> set[str]:
    """From what is written, so that a mistake elsewhere in the tenant hides none."""
    written: Any = known.source.data.get("tenants")
    try:
        return {str(key["id"]) for key in written[tenant]["keys"]}
    except (KeyError, TypeError):
        return set()
