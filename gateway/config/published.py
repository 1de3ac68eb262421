"""The demonstration's keys. They stand in this repository for everyone to read, so they open nothing but loopback."""

from __future__ import annotations

from hashlib import sha256
from ipaddress import ip_address

PUBLISHED_KEYS = (
    "sk-tollgate-demo-support",
    "sk-tollgate-demo-research",
    "sk-tollgate-demo-trial",
    "sk-tollgate-demo-admin",
)
PUBLISHED_DIGESTS = frozenset(sha256(key.encode()).hexdigest() for key in PUBLISHED_KEYS)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
