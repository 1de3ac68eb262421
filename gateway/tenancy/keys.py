"""API keys: made here, kept as SHA-256 digests only, and recognised in a request's headers."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest
from typing import Final, NamedTuple

from gateway.errors import Overloaded, Unauthenticated
from gateway.table import Key

PREFIX: Final = "sk-tg-"

_sha256: Final = sha256
_equal: Final = compare_digest

_RETRY_SECONDS: Final = 2.0  # the store of keys is asked again more often than that

_SHOWN: Final = 4  # characters of a refused key shown at either end
_SHORTEST_SHOWN: Final = 16  # shorter keys would give away too large a part of themselves

_MAKES: Final = "The operator of this gateway makes keys with `tollgate keys create TENANT`."
_ADMINS: Final = (
    "This takes an admin key: one whose SHA-256 stands under `admin: {keys: …}` in gateway.yaml, and no tenant's."
)
_MISSING: Final = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
    "(i.e. Authorization: Bearer YOUR_KEY), or in an x-api-key header."
)

_UNDECIDED: Final = (
    "This API key cannot be checked at the moment: this gateway has not reached the store of its keys since it "
    "started. Please try again shortly."
)


class Keys(NamedTuple):
    """The keys that are let in. `used` is written here: when (Unix seconds) each key was last presented, by its tenant
    and id. `complete` is False as long as there may be more that nobody could look up yet."""

    by_digest: Mapping[bytes, Key]
    used: dict[tuple[str, str], float]
    complete: bool = True


def mint() -> str:
    """A new API key of 256 random bits. Only its digest is meant to be kept."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(key_text: str) -> bytes:
    """What is stored instead of the key: its SHA-256. A minted key is random enough to need neither salt nor rounds."""
    return _sha256(key_text.encode()).digest()


def authenticate(headers: Iterable[tuple[bytes, bytes]], keys: Keys, now: float) -> Key:
    """The key a request presents as `authorization: Bearer` or, failing that, as `x-api-key`; names are lower case.

    Raises Unauthenticated; Overloaded for a key that nobody can tell right or wrong now.

    The lookup is by digest, so its timing tells nothing about the keys themselves; the last word is a constant-time
    comparison all the same.
    """
    presented = _presented(headers, _MAKES)
    hashed = _sha256(presented).digest()
    key = keys.by_digest.get(hashed)
    if key is None or not _equal(key.digest, hashed):
        raise _incorrect(presented, _MAKES) if keys.complete else Overloaded(_UNDECIDED, retry_after=_RETRY_SECONDS)
    if key.expires is not None and now >= key.expires:
        raise _expired(key, key.expires)
    keys.used[key.tenant.name, key.id] = now
    return key


def authenticate_admin(headers: Iterable[tuple[bytes, bytes]], digests: Iterable[bytes]) -> None:
    """Refuse a request to the admin API unless it presents one of the admin keys. Without any, everyone is refused."""
    presented = _presented(headers, _ADMINS)
    hashed = _sha256(presented).digest()
    known = False
    for candidate in digests:  # all of them: which one matched must not show in the time it takes
        known |= _equal(candidate, hashed)
    if not known:
        raise _incorrect(presented, _ADMINS)


def _presented(headers: Iterable[tuple[bytes, bytes]], remedy: str) -> bytes:
    fallback = b""
    for name, value in headers:
        if name == b"authorization":
            scheme = value[:7]
            if scheme == b"Bearer " or scheme.lower() == b"bearer ":
                token = value[7:].strip()
                if token:
                    return token
        elif name == b"x-api-key" and not fallback:
            fallback = value.strip()
    if not fallback:
        raise Unauthenticated(f"{_MISSING} {remedy}")
    return fallback


def _incorrect(presented: bytes, remedy: str) -> Unauthenticated:
    return Unauthenticated(f"Incorrect API key provided: {_masked(presented)}. {remedy}")


def _expired(key: Key, at: float) -> Unauthenticated:
    return Unauthenticated(
        f"This API key (`{key.id}` of tenant `{key.tenant.name}`) expired at "
        f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}. The operator of this gateway can give you another."
    )


def _masked(presented: bytes) -> str:
    if len(presented) < _SHORTEST_SHOWN:
        return "***"
    text = presented.decode("latin-1")
    shown = f"{text[:_SHOWN]}***{text[-_SHOWN:]}"
    return "".join(character if character.isascii() and character.isprintable() else "?" for character in shown)
