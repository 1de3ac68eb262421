"""What one process keeps of one tenant: its accounts, and which of them a request counts in."""

from __future__ import annotations

from typing import NamedTuple

from gateway.table import Key
from gateway.tenancy.allotment import Allotment
from gateway.tenancy.book import Claim, Demand, Grant
from gateway.tuples import made


class Purse:
    """All accounts of one tenant in this process. `waiting` counts requests that wait for the books' answer, `busy`
    says that a claim is on its way."""

    __slots__ = ("allotments", "busy", "claimed_at", "name", "seq", "touched", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        self.allotments: dict[str, Allotment] = {}
        self.touched: dict[str, Allotment] = {}  # those the books should hear of
        self.seq = 0
        self.claimed_at = 0
        self.busy = False
        self.waiting = 0

    def account(self, name: str) -> Allotment:
        found = self.allotments.get(name)
        if found is None:
            found = self.allotments[name] = Allotment(name)
        return found

    def compose(self, demands: list[Demanded], now: int, *, keep: bool, near: bool = False) -> Errand:
        """A claim of every account that has news or that somebody waits for; `near` to the books that a process keeps
        while it is alone."""
        for one in demands:
            for allotment in one.scopes.allotments:
                self.touched[allotment.name] = allotment
        allotments = list(self.touched.values())
        self.touched = {}
        self.seq += 1
        self.claimed_at = now
        places = {allotment.name: i for i, allotment in enumerate(allotments)}
        claims = [allotment.claim(now, keep=keep, near=near) for allotment in allotments]
        demanded = [
            Demand(
                one.requests,
                one.tokens,
                one.requests,
                0 if near else one.money,
                tuple([places[allotment.name] for allotment in one.scopes.allotments]),
            )
            for one in demands
        ]
        return made(Errand, (self, self.seq, allotments, claims, demanded))

    def tell(self, until: int, now: int) -> Errand:
        """What all accounts have used while they were alone, and may use until `until` (`Allotment.tell`)."""
        allotments = list(self.allotments.values())
        self.seq += 1
        return Errand(self, self.seq, allotments, [allotment.tell(until, now) for allotment in allotments], [])

    def hear(self, errand: Errand, grants: list[Grant], now: int, *, near: bool = False) -> None:
        """The books' answer to the last claim. What is not needed stays to be given back with the next."""
        claims = errand.claims
        for i, allotment in enumerate(errand.allotments):
            allotment.hear(claims[i], grants[i], now, near=near)
            if allotment.has_news():
                self.touched[allotment.name] = allotment

    def unheard(self, errand: Errand) -> None:
        """The claim had no answer; the next one says it again."""
        for allotment in errand.allotments:
            self.touched[allotment.name] = allotment

    def is_idle(self) -> bool:
        for allotment in self.allotments.values():
            if not allotment.is_idle():
                return False
        return not self.waiting and not self.busy


class Scopes:
    """The accounts that one key's requests to one model count in; all of the same tenant."""

    __slots__ = ("_refused_money", "_refused_tokens", "_refused_until", "allotments", "key", "purse", "whose")

    def __init__(self, key: Key, purse: Purse, allotments: list[Allotment], whose: list[str]) -> None:
        self.key = key
        self.purse = purse
        self.allotments = allotments
        self.whose = whose  # whom a refusal names
        self._refused_until = self._refused_tokens = self._refused_money = 0

    def fits(self, tokens: int, money: int, now: int) -> bool:
        for allotment in self.allotments:
            if not allotment.fits(tokens, money, now):
                return False
        return True

    def refuse(self, tokens: int, money: int, until: int) -> None:
        """Nobody needs to ask for as much again before `until`."""
        self._refused_until, self._refused_tokens, self._refused_money = until, tokens, money

    def is_refused(self, tokens: int, money: int, now: int) -> bool:
        return now < self._refused_until and tokens >= self._refused_tokens and money >= self._refused_money

    def take(self, tokens: int, money: int, now: int) -> None:
        touched = self.purse.touched
        for allotment in self.allotments:
            allotment.take(tokens, money, now)
            touched[allotment.name] = allotment


class Demanded(NamedTuple):
    """`requests` is 1, or 0 for one that is under way and needs more money."""

    scopes: Scopes
    requests: int
    tokens: int
    money: int


class Errand(NamedTuple):
    """One claim to the books, of several accounts of one tenant."""

    purse: Purse
    seq: int
    allotments: list[Allotment]
    claims: list[Claim]
    demands: list[Demand]
