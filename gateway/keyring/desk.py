"""Create, rotate, revoke: what the command line and the admin API do to the store's keys. A secret is given out once.

Raises GatewayError for what cannot be done, and StoreAway.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import NamedTuple

from gateway.config.units import UnitError, parse_moment, parse_span
from gateway.errors import Conflict, NotFound
from gateway.keyring.listing import moment
from gateway.keyring.record import MAX_RETIRED, Record
from gateway.keyring.store import MAX_KEYS, KeyStore
from gateway.table import Limits, Priority
from gateway.tenancy.keys import digest, mint

GRACE = "24h"  # of a rotation that says nothing else

ATTEMPTS = 5  # of a change that others come between


class Wanted(NamedTuple):
    """A key to be made; `id` None: the next free `key-N`."""

    tenant: str
    id: str | None = None
    models: frozenset[str] | None = None
    endpoints: frozenset[str] | None = None
    expires: float | None = None
    limits: Limits = Limits()
    priority: Priority | None = None


class Made(NamedTuple):
    """A record, and the secret that belongs to it: to be shown once and forgotten."""

    record: Record
    key: str


def next_id(taken: Collection[str]) -> str:
    return next(name for n in range(1, len(taken) + 2) if (name := f"key-{n}") not in taken)


def ending(text: str, now: float) -> float:
    """When a key ends, in Unix seconds: `30d` from now, or a day or time as in the YAML. Raises UnitError."""
    try:
        at = now + parse_span(text)
    except UnitError:
        try:
            at = parse_moment(text)
        except UnitError:
            wrong = f"`{text[:40]}` is no span, day or time"
            raise UnitError(wrong, "write for example `30d`, `2027-01-31` or `2027-01-31T12:00Z`") from None
    if at <= now:
        raise UnitError(f"`{text[:40]}` has passed", "write for example `30d`, or a day to come")
    return at


def written(tenant: str, key_id: str, place: object) -> str:
    """Why a key of the YAML is not changed here, and what to do; `place` is its file and line, if it has one still."""
    where = "in the YAML" if place is None else f"at {place}"
    return (
        f"{key_id} of {tenant} is written {where} and is changed there: delete it to revoke it; to rotate it, write a "
        f"second key beside it (`tollgate keys create {tenant} --write`) and delete it once nobody uses it."
    )


async def create(
    store: KeyStore, wanted: Wanted, written: Collection[str], clock: Callable[[], float] = time.time
) -> Made:
    """`written` are the ids of the tenant's keys in the YAML."""
    for _ in range(ATTEMPTS):
        records, now = (await store.load()).records, clock()
        for name, record in list(records.items()):
            if record.is_history(now) and await store.swap(name, record.version, None):
                del records[name]
        if len(records) >= MAX_KEYS:
            raise Conflict(
                f"The store holds {MAX_KEYS} keys and takes no more; revoked and expired ones make room after 30 days.",
                code="too_many_keys",
            )
        taken = {*written, *(key_id for tenant, key_id in records if tenant == wanted.tenant)}
        key_id = wanted.id or next_id(taken)
        if key_id in taken:
            known = records.get((wanted.tenant, key_id))
            state = "" if known is None or known.revoked is None else ", revoked, as the ledger remembers it"
            raise Conflict(
                f"{wanted.tenant} already has a key called {key_id}{state}: choose another id.",
                param="id",
                code="key_exists",
            )
        key = mint()
        record = Record(
            tenant=wanted.tenant,
            id=key_id,
            digest=digest(key),
            created=now,
            limits=wanted.limits,
            models=wanted.models,
            endpoints=wanted.endpoints,
            expires=wanted.expires,
            priority=wanted.priority,
        )
        if await store.swap(record.name, 0, record):
            return Made(record, key)
    raise _busy()


async def rotate(
    store: KeyStore, tenant: str, key_id: str, grace: float, clock: Callable[[], float] = time.time
) -> Made:
    """A new secret for the same key. Earlier ones are let in for `grace` more seconds, at most."""
    for _ in range(ATTEMPTS):
        record, now = await _find(store, tenant, key_id), clock()
        if (state := record.state(now)) != "active":
            raise Conflict(f"{key_id} of {tenant} is {state}: create another key.", code=f"key_{state}")
        if grace > 0 and len(record.in_grace(now)) >= MAX_RETIRED:
            raise Conflict(
                f"{MAX_RETIRED} earlier secrets of {key_id} of {tenant} are still let in, the first until "
                f"{moment(record.in_grace(now)[0].until)}: wait for that, or rotate with a grace of 0s, which ends "
                "them all.",
                code="key_rotated_too_often",
            )
        key = mint()
        after = record.rotated(digest(key), grace, now)
        if await store.swap(record.name, record.version, after):
            return Made(after, key)
    raise _busy()


async def revoke(store: KeyStore, tenant: str, key_id: str, clock: Callable[[], float] = time.time) -> Record:
    """The key and its earlier secrets are let in no more. Of a revoked key: what it is already."""
    for _ in range(ATTEMPTS):
        record = await _find(store, tenant, key_id)
        if record.revoked is not None:
            return record
        after = record.revoke(clock())
        if await store.swap(record.name, record.version, after):
            return after
    raise _busy()


async def _find(store: KeyStore, tenant: str, key_id: str) -> Record:
    records = (await store.load()).records
    record = records.get((tenant, key_id))
    if record is None:
        known = ", ".join(sorted(known for owner, known in records if owner == tenant)[:20])
        raise NotFound(
            f"The store has no key called {key_id} of {tenant}; of this tenant it has: {known or 'none'}.",
            code="key_not_found",
        )
    return record


def _busy() -> Conflict:
    return Conflict("Others changed the same key at the same time, again and again: try once more.", code="key_busy")
