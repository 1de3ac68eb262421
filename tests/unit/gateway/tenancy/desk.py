"""A limiter asked in the words of the tests: a tenant, how much, and when."""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

from gateway.table import Budget, Key, Limits, Tenant
from gateway.tenancy.limiter import MemoryLimiter
from gateway.tenancy.limits import Headers, Lease


def tenant(name: str = "support", *, budget: Budget | None = None, **limits: int) -> Tenant:
    return Tenant(name=name, models=None, limits=Limits(**limits), budget=budget, weight=1.0, tier="standard")


class Usage(NamedTuple):
    in_flight: int
    requests_remaining: int | None
    tokens_remaining: int | None
    places_remaining: int | None
    spent: int | None
    reserved: int | None


class Desk:
    def __init__(self) -> None:
        self.alerts: list[tuple[str, int, int]] = []
        self.limiter = MemoryLimiter(lambda *alert: self.alerts.append(alert))
        self._keys: dict[str, Key] = {}

    def key(self, who: Tenant, now: float = 0.0) -> Key:
        known = self._keys.get(who.name)
        if known is None or known.tenant != who:
            if known is not None:
                self.limiter.tick(now)
                self.limiter.retain({name: key.tenant for name, key in self._keys.items()} | {who.name: who})
            known = self._keys[who.name] = Key("prod", sha256(who.name.encode()).digest(), who)
        return known

    def admit(self, who: Tenant, tokens: int, money: int, now: float) -> Lease:
        lease = self.limiter.admit(self.key(who, now), "", tokens, money, now)
        assert lease is not None
        return lease

    def headers(self, who: Tenant, now: float) -> Headers:
        return self.limiter.headers(self.key(who, now), now)

    def usage(self, who: Tenant, now: float) -> Usage:
        self.limiter.headers(self.key(who, now), now)  # its accounts, as this tenant has them
        self.limiter.tick(now)
        accounts = {one.account.partition(":")[0]: one for one in self.limiter.standings(who, now)}
        limits, budget = accounts.get("tenant"), accounts.get("budget")
        some = limits or budget
        return Usage(
            in_flight=0 if some is None else some.in_flight,
            requests_remaining=who.limits.rpm if limits is None else limits.requests_remaining,
            tokens_remaining=who.limits.tpm if limits is None else limits.tokens_remaining,
            places_remaining=who.limits.concurrency if limits is None else limits.places_remaining,
            spent=None if budget is None else budget.spent,
            reserved=None if budget is None else budget.reserved,
        )
