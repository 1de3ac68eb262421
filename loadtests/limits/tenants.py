"""Who asks in this test: one tenant for each kind of limit, and one without any."""

from __future__ import annotations

from hashlib import sha256

from gateway.table import Budget, Key, Limits, Tenant

RPM = 1_200
TPM = 120_000
PLACES = 10
TOKENS = 200  # reserved for a request
MONEY = 1_000_000  # nano-USD, the most that a request may cost


def tenants(budget: int) -> list[Tenant]:
    """In the order that events number them. `budget` is in nano-USD."""
    return [
        Tenant("rate", None, Limits(rpm=RPM), None, 1.0, "standard"),
        Tenant("tokens", None, Limits(tpm=TPM), None, 1.0, "standard"),
        Tenant("places", None, Limits(concurrency=PLACES), None, 1.0, "standard"),
        Tenant("money", None, Limits(), Budget(budget, "total", "reject"), 1.0, "standard"),
        Tenant("free", None, Limits(), None, 1.0, "standard"),
    ]


def key(tenant: Tenant) -> Key:
    return Key("load", sha256(tenant.name.encode()).digest(), tenant)
