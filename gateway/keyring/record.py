"""One key of the store: what is kept of it, how it changes, and which of two accounts of it is the later one. Pure.

    live ──rotated──▶ live (the earlier secret is let in until its grace is over)
    live ──revoked──▶ revoked, for good

A record is never changed in place: each change is a new one with the next `version`, and a store takes it only over
the version it was made from. Only digests are kept, so a record may be shown to whoever may see its tenant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeAlias

import orjson

from gateway.table import Limits, Priority

KeyName: TypeAlias = tuple[str, str]  # tenant and id

MAX_RETIRED = 8  # earlier secrets in their grace at once
HISTORY_SECONDS = 30 * 86_400.0  # for which a revoked or expired key is still listed

State = Literal["active", "expired", "revoked"]


class RecordError(ValueError):
    """What lies in a store is no record."""


@dataclass(frozen=True, slots=True)
class Retired:
    """An earlier secret of a rotated key, let in until then (Unix seconds)."""

    digest: bytes
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Times are Unix seconds; the rest means what it means on `table.Key`."""

    tenant: str
    id: str
    digest: bytes
    created: float
    version: int = 1
    limits: Limits = field(default_factory=Limits)
    models: frozenset[str] | None = None
    endpoints: frozenset[str] | None = None
    expires: float | None = None
    priority: Priority | None = None
    revoked: float | None = None
    retired: tuple[Retired, ...] = ()

    @property
    def name(self) -> KeyName:
        return self.tenant, self.id

    def state(self, now: float) -> State:
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and now >= self.expires else "active"

    def is_history(self, now: float) -> bool:
        """Whether it has ended so long ago that it may be forgotten."""
        ends = [end for end in (self.revoked, self.expires) if end is not None]
        return bool(ends) and now - min(ends) > HISTORY_SECONDS

    def in_grace(self, now: float) -> tuple[Retired, ...]:
        """The earlier secrets that are still let in."""
        return tuple(old for old in self.retired if now < old.until)

    def rotated(self, digest: bytes, grace: float, now: float) -> Record:
        """With a new secret. No earlier one, of this rotation or another, is let in for longer than `grace` seconds."""
        earlier = (*self.in_grace(now), Retired(self.digest, now + grace))
        kept = tuple(Retired(old.digest, min(old.until, now + grace)) for old in earlier) if grace > 0 else ()
        return replace(self, digest=digest, retired=kept, version=self.version + 1)

    def revoke(self, now: float) -> Record:
        return replace(self, revoked=now, retired=(), version=self.version + 1)


def later(ours: Record, theirs: Record | None) -> Record | None:
    """What a store that has `theirs` should be given by who knows `ours`; None when nothing.

    A store may forget: a replica that took over lags behind, a backup is older, a Redis without a disk comes
    back empty. The higher version wins, but a revocation wins over anything: nothing brings a revoked key back.
    """
    if theirs is None:
        return ours
    if (ours.revoked is None) != (theirs.revoked is None):
        return None if ours.revoked is None else replace(ours, version=max(ours.version, theirs.version + 1))
    return ours if ours.version > theirs.version else None


def encode(record: Record) -> bytes:
    document = asdict(record)
    document["digest"] = record.digest.hex()
    document["retired"] = [{"digest": old.digest.hex(), "until": old.until} for old in record.retired]
    for key in ("models", "endpoints"):
        if document[key] is not None:
            document[key] = sorted(document[key])
    return orjson.dumps({key: value for key, value in document.items() if value is not None})


def decode(data: bytes) -> Record:
    """Raises RecordError. What a later Tollgate has added is passed over."""
    try:
        document: dict[str, Any] = orjson.loads(data)
        limits: Mapping[str, Any] = document.get("limits", {})
        retired: list[dict[str, Any]] = document.get("retired", [])
        record = Record(
            tenant=document["tenant"],
            id=document["id"],
            digest=bytes.fromhex(document["digest"]),
            created=float(document["created"]),
            version=int(document["version"]),
            limits=Limits(limits.get("rpm"), limits.get("tpm"), limits.get("concurrency")),
            models=_set(document.get("models")),
            endpoints=_set(document.get("endpoints")),
            expires=_time(document.get("expires")),
            priority=document.get("priority"),
            revoked=_time(document.get("revoked")),
            retired=tuple(Retired(bytes.fromhex(old["digest"]), float(old["until"])) for old in retired),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecordError(f"{type(error).__name__}: {error}") from None
    return record


def _set(listed: list[str] | None) -> frozenset[str] | None:
    return None if listed is None else frozenset(listed)


def _time(seconds: float | None) -> float | None:
    return None if seconds is None else float(seconds)
