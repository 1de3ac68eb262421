"""The keys of the YAML and those of the store as one mapping, made anew when either changes. No IO, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from gateway.keyring.record import KeyName, Record
from gateway.table import Key, Tenant


class Merged(NamedTuple):
    """`shadowed` are the store's keys that do not count because the YAML has one of the same id or the same secret."""

    by_digest: dict[bytes, Key]
    shadowed: frozenset[KeyName]


class _Made(NamedTuple):
    record: Record
    tenant: Tenant
    keys: list[Key]


class Merger:
    """Keeps the keys it made of each record: of thousands, a change costs the making of those that changed."""

    def __init__(self) -> None:
        self._made: dict[KeyName, _Made] = {}

    def merge(self, written: Mapping[bytes, Key], tenants: Mapping[str, Tenant], records: Iterable[Record]) -> Merged:
        """What is written wins. A record of a tenant that is not written, or that is revoked, lets nobody in; one that
        has expired stays, so that its holder is told."""
        names = {(key.tenant.name, key.id) for key in written.values()}
        by_digest = dict(written)
        shadowed: set[KeyName] = set()
        before, self._made = self._made, {}
        for record in records:
            tenant = tenants.get(record.tenant)
            if tenant is None or record.revoked is not None:
                continue
            name = record.name
            if name in names or record.digest in written:
                shadowed.add(name)
                continue
            made = before.get(name)
            if made is None or made.record is not record or made.tenant is not tenant:
                made = _Made(record, tenant, _keys(record, tenant))
            self._made[name] = made
            for key in made.keys:
                if key.digest not in written:
                    by_digest[key.digest] = key
        return Merged(by_digest, frozenset(shadowed))


def _keys(record: Record, tenant: Tenant) -> list[Key]:
    """One for the secret it has, one for each earlier secret, which ends with its grace."""
    ends = [
        (old.digest, old.until if record.expires is None else min(old.until, record.expires)) for old in record.retired
    ]
    return [
        Key(
            id=record.id,
            digest=digest,
            tenant=tenant,
            limits=record.limits,
            models=record.models,
            endpoints=record.endpoints,
            expires=expires,
            priority=record.priority,
        )
        for digest, expires in ((record.digest, record.expires), *ends)
    ]
