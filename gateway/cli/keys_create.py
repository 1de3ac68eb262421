"""`tollgate keys create`: a new API key for a tenant, shown once; only its digest is kept."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from gateway.cli.common import complain
from gateway.cli.keys_store import with_store
from gateway.config.draft import Draft, draft
from gateway.config.edit import EditError, insert_key, key_line
from gateway.config.keys import entry, key_ids
from gateway.config.problems import ConfigError, did_you_mean
from gateway.config.references import References
from gateway.config.source import read
from gateway.config.units import UnitError
from gateway.config.write import rewrite
from gateway.config.written.base import NAME, NAME_REMEDY
from gateway.config.written.tenants import EndpointName
from gateway.errors import GatewayError
from gateway.keyring import desk
from gateway.keyring.listing import limited
from gateway.keyring.store import KeyStore, StoreAway
from gateway.table import Limits
from gateway.tenancy.keys import digest, mint


def run(arguments: argparse.Namespace) -> int:
    tenant, directory = str(arguments.tenant), Path(arguments.config)
    for name in (tenant, arguments.id):
        if name is not None and not re.fullmatch(NAME, name):
            complain(f"{name!r} cannot be a name: {NAME_REMEDY.format(64, '')}")
            return 2
    known = draft(read(directory, os.environ))
    try:
        wanted = _wanted(arguments, known)
    except UnitError as error:
        complain(error)
        return 2
    if arguments.store:
        return _into_store(known, wanted)
    return _into_yaml(known, wanted, write=arguments.write)


def _wanted(arguments: argparse.Namespace, known: Draft) -> desk.Wanted:
    """Raises UnitError for an option whose value cannot be."""
    references, endpoints = References(known), get_args(EndpointName)
    for asked in arguments.models or ():
        # Where names may be missing, none is doubted.
        if not known.source.unread and (complaint := references.complaint(asked, virtual=True)):
            raise UnitError(f"--models: {complaint.wrong}", complaint.remedy)
    for endpoint in arguments.endpoints or ():
        if endpoint not in endpoints:
            raise UnitError(f"--endpoints: there is no `{endpoint}`", did_you_mean(endpoint, endpoints, ""))
    try:
        expires = None if arguments.expires is None else desk.ending(arguments.expires, time.time())
    except UnitError as error:
        raise UnitError(f"--expires: {error.wrong}", error.remedy) from None
    return desk.Wanted(
        tenant=arguments.tenant,
        id=arguments.id,
        models=None if arguments.models is None else frozenset(arguments.models),
        endpoints=None if arguments.endpoints is None else frozenset(arguments.endpoints),
        expires=expires,
        limits=Limits(arguments.rpm, arguments.tpm, arguments.concurrency),
        priority=arguments.priority,
    )


def _into_store(known: Draft, wanted: desk.Wanted) -> int:
    if wanted.tenant not in known.tenants:
        complain(_no_tenant(known, wanted.tenant))
        return 1

    async def create(store: KeyStore) -> tuple[desk.Made, str]:
        return await desk.create(store, wanted, key_ids(known, wanted.tenant)), store.place

    try:
        made, place = with_store(known, create)
    except (StoreAway, ConfigError, GatewayError) as error:
        complain(error)
        return 1
    print(f"{made.record.id} of {wanted.tenant} is in the store at {place}. The key, shown only now:", file=sys.stderr)
    print(made.key)
    return 0


def _into_yaml(known: Draft, wanted: desk.Wanted, *, write: bool) -> int:
    tenant, directory = wanted.tenant, known.source.directory
    taken = {*key_ids(known, tenant), *_ids_in_store(known, tenant)}
    key_id = wanted.id or desk.next_id(taken)
    if key_id in taken:
        complain(f"{tenant} already has a key called {key_id}: choose another --id")
        return 1
    key = mint()
    written = entry(
        key_id,
        digest(key).hex(),
        models=None if wanted.models is None else sorted(wanted.models),
        endpoints=None if wanted.endpoints is None else sorted(wanted.endpoints),
        expires=None if wanted.expires is None else datetime.fromtimestamp(wanted.expires, UTC).strftime(_MOMENT),
        limits=dict(limited(wanted.limits)),
        priority=wanted.priority,
    )
    place = known.source.places.get(("tenants", tenant))
    if write:
        if place is None:
            complain(_no_tenant(known, tenant))
            return 1
        try:
            rewrite(Path(place.file), lambda text: insert_key(text, tenant, written))
        except (EditError, OSError, UnicodeDecodeError) as error:
            complain(f"{place.file}: {error}; without --write you get the line to paste")
            return 1
        print(f"{key_id} of {tenant} is in {place.file}. The key, shown only now:", file=sys.stderr)
    elif place is not None:
        print(f"under `tenants.{tenant}.keys` in {place.file}:\n", file=sys.stderr)
        print(f"      - {key_line(written)}\n\nthe key, shown only now:", file=sys.stderr)
    else:
        print(f"{directory} has no tenant {tenant} yet; in a *.yaml file of it:\n", file=sys.stderr)
        print(f"tenants:\n  {tenant}:\n    keys:\n      - {key_line(written)}", file=sys.stderr)
        print("\nthe key, shown only now:", file=sys.stderr)
    print(key)
    return 0


_MOMENT = "%Y-%m-%dT%H:%M:%SZ"


def _no_tenant(known: Draft, tenant: str) -> str:
    names = ", ".join(known.tenants) or "none"
    return (
        f"{known.source.directory} has no tenant {tenant} (it has {names}): write `tenants: {{{tenant}: {{}}}}` first"
    )


def _ids_in_store(known: Draft, tenant: str) -> set[str]:
    """So that no key of the YAML takes the place of one in the store unnoticed. A store that is away is no obstacle."""
    if known.source.unread:  # then nobody knows which store that is
        return set()

    async def ids(store: KeyStore) -> set[str]:
        return {key_id for owner, key_id in (await store.load()).records if owner == tenant}

    try:
        return with_store(known, ids)
    except (StoreAway, ConfigError) as error:
        complain(f"the ids of keys in the store are not known ({error})")
        return set()
