"""The keys of the YAML and those of the store as one mapping, made anew when either changes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from gateway.keyring.record import KeyName, Record
from gateway.table import Key, Tenant


class Merged(NamedTuple):
    """`shadowed` are the store's keys that do not count because the YAML has one of the same id or the same secret."""

    by_digest: dict[bytes, Key]
    shadowed: frozenset[KeyName]


def merge(written: Mapping[bytes, Key], tenants: Mapping[str, Tenant], records: Iterable[Record], now: float) -> Merged:
    """What is written wins. A record of a tenant that is not written, or that is revoked, lets nobody in; one that has
    expired stays, so that its holder is told."""
    names = {(key.tenant.name, key.id) for key in written.values()}
    by_digest = dict(written)
    shadowed: set[KeyName] = set()
    for record in records:
        tenant = tenants.get(record.tenant)
        if tenant is None or record.revoked is not None:
            continue
        if record.name in names or record.digest in written:
            shadowed.add(record.name)
            continue
        for digest, until in ((record.digest, None), *((old.digest, old.until) for old in record.in_grace(now))):
            if digest not in written:
                by_digest[digest] = _key(record, digest, tenant, until)
    return Merged(by_digest, frozenset(shadowed))


def _key(record: Record, digest: bytes, tenant: Tenant, until: float | None) -> Key:
    ends = [end for end in (record.expires, until) if end is not None]
    return Key(
        id=record.id,
        digest=digest,
        tenant=tenant,
        limits=record.limits,
        models=record.models,
        endpoints=record.endpoints,
        expires=min(ends, default=None),
        priority=record.priority,
    )
