"""Keys as they are shown: by `tollgate keys list` and by the admin API. Never a secret, nor a digest."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from gateway.keyring.record import KeyName, Record
from gateway.table import Key, Limits

Row = dict[str, Any]


def rows(
    written: Iterable[Key],
    records: Iterable[Record],
    tenants: Collection[str],
    shadowed: Collection[KeyName],
    uses: Mapping[KeyName, float],
    now: float,
) -> list[Row]:
    """By tenant and id. `state` is active, expired, revoked, `no_tenant` (the YAML has none of that name) or `shadowed`
    (by a key of the YAML); only an active key is let in."""
    found = [*(_written(key, now) for key in written)]
    for record in records:
        state = record.state(now)
        if state == "active" and record.tenant not in tenants:
            state = "no_tenant"
        elif state == "active" and record.name in shadowed:
            state = "shadowed"
        found.append(row(record, now) | {"state": state})
    found.sort(key=lambda row: (row["tenant"], row["id"], row["source"]))
    for one in found:
        one["last_used"] = moment(uses.get((one["tenant"], one["id"])))
    return found


def row(record: Record, now: float) -> Row:
    """One key of the store by itself."""
    return {
        "tenant": record.tenant,
        "id": record.id,
        "source": "store",
        "state": record.state(now),
        "created": moment(record.created),
        "expires": moment(record.expires),
        "revoked": moment(record.revoked),
        "last_used": None,
        "earlier_secrets_until": [moment(old.until) for old in record.in_grace(now)],
        **_scopes(record.models, record.endpoints, record.limits, record.priority),
    }


def _written(key: Key, now: float) -> Row:
    return {
        "tenant": key.tenant.name,
        "id": key.id,
        "source": "yaml",
        "state": "expired" if key.expires is not None and now >= key.expires else "active",
        "created": None,
        "expires": moment(key.expires),
        "revoked": None,
        "last_used": None,
        "earlier_secrets_until": [],
        **_scopes(key.models, key.endpoints, key.limits, key.priority),
    }


def _scopes(
    models: frozenset[str] | None, endpoints: frozenset[str] | None, limits: Limits, priority: str | None
) -> Row:
    return {
        "models": None if models is None else sorted(models),
        "endpoints": None if endpoints is None else sorted(endpoints),
        "limits": dict(limited(limits)),
        "priority": priority,
    }


def limited(limits: Limits) -> Iterator[tuple[str, int]]:
    """The limits that are set."""
    for name, value in (("rpm", limits.rpm), ("tpm", limits.tpm), ("concurrency", limits.concurrency)):
        if value is not None:
            yield name, value


def moment(seconds: float | None) -> str | None:
    """UTC, to the second."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
