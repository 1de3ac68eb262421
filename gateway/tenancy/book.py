"""The shared account of a tenant, of one of its keys or models: what is used, and which process holds how much.

Requests are not counted here one by one. A process holds a part of each limit and admits from it on its own; from time
to time it makes a claim: all it has used so far, all it holds now, and how much more it would like. The book answers
with what the process may hold from now on. What is held counts as used until it is given back, so the sum of what all
processes admit never passes a limit, however late or seldom they claim.

    requests, tokens    level: what is used, draining at the limit's own rate (a full minute's worth in a minute)
    places              only held: requests at the same time
    money               spent in the current period of the budget

A claim is absolute (`held`) or cumulative (`used`), never a difference, so that one which is lost, repeated or answered
in vain does no harm, and a book that has forgotten a process learns from its next claim. `seq` tells a claim from one
that was overtaken on its way. A process that makes no claim for `ttl` is taken for dead: what it held of requests,
tokens and money is charged, for it may have been used; its places come free. Should it come back, its own account of
what it spent takes the place of that charge; of requests and tokens the charge stays, for it drains by itself.

The ledger knows what was really spent, later. Its word raises an account at once (`money_seed`). It lowers one only
where a process is sure that the ledger has heard all of what the account says (`money_sure`): if that is still all the
account says, the ledger's word takes its place, and charges for the dead are forgotten. A charge for one that may come
back and spend what it held is not: it is dead for certain only where the process that is sure stands in its place.

`limits.lua` is this file once more, for Redis; a property test keeps the two alike. All numbers are integers below
2^53, which Lua's are exact to. Times are Unix milliseconds, money is nano-USD.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gateway.tuples import made

MINUTE: Final = 60_000  # milliseconds; also the units of a level to one request or token, so that draining is exact
ACTIVE: Final = 5_000  # milliseconds since its last claim for which a process counts among those that share
FORGET: Final = 3_600_000  # milliseconds after which a dead process is no longer expected back
MONEY_PARTS: Final = 100  # beyond what its requests need, a process holds at most this part of the money that is left


class Claim(NamedTuple):
    """What one process says of one account. A `limit` of -1 is none. `want` is what it would like to hold beyond what
    its waiting requests need; `ago` is how long ago the newest use lies that the book has not heard of."""

    ago: int
    requests_limit: int
    requests_used: int  # ever
    requests_acked: int  # of it, what the book has confirmed
    requests_held: int
    requests_want: int
    requests_seen: int  # the level as this process knows it, in whole ones: for a book that has forgotten it
    tokens_limit: int
    tokens_used: int
    tokens_acked: int
    tokens_held: int
    tokens_want: int
    tokens_seen: int
    places_limit: int
    places_held: int
    places_want: int
    money_limit: int
    money_refuses: int  # 1: a budget that refuses, 0: one that only warns
    money_used: int  # in the period
    money_acked: int
    money_held: int
    money_want: int
    money_period: int  # its first moment
    money_seen: int  # what is known to be spent of it, by the word of the account that began at `money_born`
    money_born: int
    money_seed: int  # the same by the ledger's word, or 0
    money_sure: int  # all that the account says, if the ledger's word is the truth of it; -1 when that is not sure


class Demand(NamedTuple):
    """What one request waits for: it is granted in all of its accounts or in none. `accounts` are places in the list of
    claims."""

    requests: int
    tokens: int
    places: int
    money: int
    accounts: tuple[int, ...]


class Grant(NamedTuple):
    """What the process holds from now on, and how the account stands. -1 where there is no limit."""

    sharing: int  # processes
    requests_held: int
    requests_level: int  # in units
    requests_total: int  # held by all
    tokens_held: int
    tokens_level: int
    tokens_total: int
    places_held: int
    places_total: int
    money_held: int
    money_spent: int
    money_total: int
    money_period: int
    money_alert: int  # a share of the budget in percent that is reached now and was not yet told, or 0
    born: int  # when the account began: one that begins anew has forgotten all


class Overtaken(Exception):
    """A newer claim of the same process has been answered already."""


@dataclass(slots=True)
class _Holder:
    seq: int = 0
    expires: int = 0
    seen: int = 0
    dead: bool = False
    requests_used: int = 0
    requests_held: int = 0
    tokens_used: int = 0
    tokens_held: int = 0
    places_held: int = 0
    money_used: int = 0
    money_held: int = 0
    money_period: int = -1
    requests_limit: int = 0  # as it knows them
    tokens_limit: int = 0


@dataclass(slots=True)
class _Level:
    units: int = 0
    at: int = 0
    limit: int = 0  # the highest that a process knows
    base: int = 0  # taken over from an account before this one, had nothing drained since this one began

    def hear(self, born: int, limit: int, used: int, seen: int, at: int, now: int) -> None:
        """Adds `used` at `at`, in units, and drains up to `now`. `seen` is the level that an account before this one
        had, as a process that knew it says; this one was `born` later."""
        if seen:
            self.units, self.at = _commit(self.units, self.at, limit, 0, now, now)
            more, self.base = _taken_over(self.base, seen, (now - born) * limit)
            self.units += more
        self.units, self.at = _commit(self.units, self.at, limit, used, at, now)

    def limited(self, highest: int) -> None:
        """A limit that all know to be lower leaves the room there was: a level above it would close it for minutes."""
        if highest < self.limit:
            self.units = max(0, self.units - (self.limit - highest) * MINUTE)
        self.limit = highest


@dataclass(slots=True)
class _Account:
    born: int
    requests: _Level = field(default_factory=_Level)
    tokens: _Level = field(default_factory=_Level)
    money_spent: int = 0
    money_base: int = 0  # of it, what was taken over from an account before this one, or from the ledger
    money_period: int = -1
    money_told: int = 0
    money_told_limit: int = 0
    holders: dict[str, _Holder] = field(default_factory=dict[str, _Holder])


class _Free:
    """What of an account can still be granted; -1 where there is no limit."""

    __slots__ = ("affords", "limit", "money", "places", "refused", "requests", "sharing", "spent", "tokens")

    def __init__(self) -> None:
        self.sharing = 1
        self.requests = -1
        self.tokens = -1
        self.places = -1
        self.money = -1
        self.spent = 0
        self.limit = 0
        self.affords = True
        self.refused = False  # a request that the rest of the budget can not pay whatever comes back


class Books:
    """The accounts of all tenants, in the memory of one process."""

    def __init__(self) -> None:
        self._tenants: dict[str, dict[str, _Account]] = {}

    def claim(
        self,
        tenant: str,
        holder: str,
        seq: int,
        ttl: int,
        names: Sequence[str],
        claims: Sequence[Claim],
        demands: Sequence[Demand],
        now: int,
    ) -> list[Grant]:
        """One grant for each claim, in one step. Raises Overtaken when `seq` is not above the holder's last."""
        tenants = self._tenants
        books = tenants.get(tenant)
        if books is None:
            books = tenants[tenant] = {}
        accounts: list[_Account] = []
        for name in names:
            account = books.get(name)
            if account is None:
                account = _Account(now)
            before = account.holders.get(holder)
            if before is not None and seq <= before.seq:
                raise Overtaken
            accounts.append(account)
        for i, account in enumerate(accounts):
            books[names[i]] = account
        free: list[_Free] = []
        granted: list[list[int]] = []
        for i, account in enumerate(accounts):
            claim = claims[i]
            _take_down(account, holder, claim, now)
            free.append(_free(account, claim, now))
            granted.append([0, 0, 0, 0])
        for demand in demands:
            _grant(demand, free, granted)
        grants: list[Grant] = []
        for i, account in enumerate(accounts):
            own = account.holders[holder]
            own.seq, own.seen, own.expires = seq, now, now + ttl
            grants.append(_answer(account, own, claims[i], free[i], granted[i]))
        return grants

    def begin(self, tenant: str, name: str, requests_level: int, tokens_level: int, now: int) -> None:
        """An account whose levels are known from elsewhere."""
        account = self._tenants.setdefault(tenant, {})[name] = _Account(now)
        account.requests.units, account.requests.at = requests_level, now
        account.tokens.units, account.tokens.at = tokens_level, now

    def forget(self, tenant: str) -> None:
        self._tenants.pop(tenant, None)


def _take_down(account: _Account, holder: str, claim: Claim, now: int) -> None:
    """What the process has used and what it holds, and the end of those that have been silent for too long."""
    own = account.holders.get(holder)
    known = own is not None
    if own is None:
        own = account.holders[holder] = _Holder()
    at = now - claim.ago
    if claim.requests_limit >= 0:
        used = max(0, claim.requests_used - (own.requests_used if known else claim.requests_acked)) * MINUTE
        seen = 0 if known else claim.requests_seen
        account.requests.hear(account.born, claim.requests_limit, used, seen, at, now)
    if claim.tokens_limit >= 0:
        used = max(0, claim.tokens_used - (own.tokens_used if known else claim.tokens_acked)) * MINUTE
        seen = 0 if known else claim.tokens_seen
        account.tokens.hear(account.born, claim.tokens_limit, used, seen, at, now)
    if own.dead:
        own.dead = False
        if own.money_period == account.money_period:
            account.money_spent = max(0, account.money_spent - own.money_held)
    if claim.money_limit >= 0:
        if claim.money_period > account.money_period:
            account.money_period = claim.money_period
            account.money_spent = account.money_base = account.money_told = 0
            account.money_told_limit = claim.money_limit
        if claim.money_period == account.money_period:
            counted = own.money_used if own.money_period == claim.money_period else claim.money_acked
            account.money_spent += max(0, claim.money_used - counted)
            more = 0
            if claim.money_born not in (0, account.born):  # what all had used before, beside what each says since
                more = max(0, claim.money_seen - account.money_base)
            more = max(more, claim.money_seed - account.money_spent)
            account.money_base += more
            account.money_spent += more
            if claim.money_sure == account.money_spent and claim.money_born == account.born:
                _correct(account, holder, claim.money_seed)
            own.money_used, own.money_held = claim.money_used, claim.money_held
            own.money_period = claim.money_period
    own.requests_held = own.tokens_held = 0
    if claim.requests_limit >= 0:
        own.requests_used, own.requests_held = claim.requests_used, claim.requests_held
    if claim.tokens_limit >= 0:
        own.tokens_used, own.tokens_held = claim.tokens_used, claim.tokens_held
    own.places_held = claim.places_held
    gone: list[str] = []
    for name, other in account.holders.items():
        if other is own or other.expires >= now:
            continue
        if not other.dead:
            other.dead = True
            account.requests.units += other.requests_held * MINUTE
            account.tokens.units += other.tokens_held * MINUTE
            if other.money_period == account.money_period:
                account.money_spent += other.money_held
            other.places_held = 0
        if other.expires + FORGET < now:
            gone.append(name)
    for name in gone:
        del account.holders[name]
    if claim.requests_limit >= 0:
        own.requests_limit = claim.requests_limit
        account.requests.limited(max([other.requests_limit for other in account.holders.values() if not other.dead]))
    if claim.tokens_limit >= 0:
        own.tokens_limit = claim.tokens_limit
        account.tokens.limited(max([other.tokens_limit for other in account.holders.values() if not other.dead]))


def _correct(account: _Account, holder: str, spent: int) -> None:
    """By the ledger's word, unless somebody who was charged for what it held may still spend it."""
    place = place_of(holder)
    charged: list[_Holder] = []
    for name, other in account.holders.items():
        if other.dead and other.money_held and other.money_period == account.money_period:
            if not place or place_of(name) != place:
                return
            charged.append(other)
    for other in charged:
        other.money_held = 0
    account.money_spent = spent


def place_of(holder: str) -> str:
    """Its name up to the last `/`: whoever is there now stands in for whoever was there before. "" for none."""
    return holder.rpartition("/")[0]


def _commit(level: int, since: int, limit: int, used: int, at: int, now: int) -> tuple[int, int]:
    """A level that was right at `since`, with `used` added at `at` or as soon after as is known, as it is at `now`."""
    if since > now + MINUTE:  # the clock was set back: draining must not stop until it has caught up
        since = now
    if used:
        if at > since:
            level, since = max(0, level - (at - since) * limit), at
        level += used
    if now > since:
        level, since = max(0, level - (now - since) * limit), now
    return level, since


def _taken_over(base: int, seen: int, drained: int) -> tuple[int, int]:
    """What a level that all knew before adds to an account that has forgotten it, beside what was taken over of it
    already: `base`, with all that has drained since the account began."""
    level = seen * MINUTE
    return max(0, level - max(0, base - drained)), max(base, level + drained)


def _free(account: _Account, claim: Claim, now: int) -> _Free:
    free = _Free()
    requests = tokens = places = money = sharing = 0
    for holder in account.holders.values():
        if holder.seen + ACTIVE >= now:
            sharing += 1
        if not holder.dead:
            requests += holder.requests_held
            tokens += holder.tokens_held
            places += holder.places_held
            if holder.money_period == account.money_period:
                money += holder.money_held
    free.sharing = sharing if sharing > 0 else 1
    if claim.requests_limit >= 0:
        free.requests = max(0, (claim.requests_limit - requests) * MINUTE - account.requests.units) // MINUTE
    if claim.tokens_limit >= 0:
        free.tokens = max(0, (claim.tokens_limit - tokens) * MINUTE - account.tokens.units) // MINUTE
    if claim.places_limit >= 0:
        free.places = max(0, claim.places_limit - places)
    if claim.money_limit >= 0 and claim.money_refuses:
        free.limit, free.spent = claim.money_limit, account.money_spent
        free.money = max(0, claim.money_limit - account.money_spent - money)
        if claim.money_period != account.money_period:  # this process's clock has yet to enter the period
            free.money = 0
        free.affords = account.money_spent < claim.money_limit  # used up, it affords nothing, not even what is free
    return free


def _grant(demand: Demand, free: list[_Free], granted: list[list[int]]) -> None:
    fits = True
    for i in demand.accounts:
        left = free[i]
        if left.money >= 0 and (not left.affords or demand.money > left.money):
            fits = False
            if left.spent + demand.money > left.limit or not left.affords:
                left.refused = True
        if (
            (left.requests >= 0 and demand.requests > left.requests)
            or (left.tokens >= 0 and demand.tokens > left.tokens)
            or (left.places >= 0 and demand.places > left.places)
        ):
            fits = False
    if not fits:
        return
    for i in demand.accounts:
        left, given = free[i], granted[i]
        if left.requests >= 0:
            left.requests -= demand.requests
            given[0] += demand.requests
        if left.tokens >= 0:
            left.tokens -= demand.tokens
            given[1] += demand.tokens
        if left.places >= 0:
            left.places -= demand.places
            given[2] += demand.places
        if left.money >= 0:
            left.money -= demand.money
            given[3] += demand.money


def _answer(account: _Account, own: _Holder, claim: Claim, free: _Free, given: list[int]) -> Grant:
    """Adds to what the demands got: for what is to come, at most an even part of half of what is left."""
    shares = 2 * free.sharing
    if free.requests >= 0:
        own.requests_held += given[0] + min(claim.requests_want, free.requests // shares)
    if free.tokens >= 0:
        own.tokens_held += given[1] + min(claim.tokens_want, free.tokens // shares)
    if free.places >= 0:
        own.places_held += given[2] + min(claim.places_want, free.places // shares)
    if free.money >= 0:
        own.money_held += given[3] + (min(claim.money_want, free.money // MONEY_PARTS) if free.affords else 0)
    requests = tokens = places = money = 0
    for holder in account.holders.values():
        if not holder.dead:
            requests += holder.requests_held
            tokens += holder.tokens_held
            places += holder.places_held
            if holder.money_period == account.money_period:
                money += holder.money_held
    alert = 0
    if claim.money_limit >= 0 and claim.money_period == account.money_period:
        alert = _alert(account, claim.money_limit, free.refused)
    fields = (
        free.sharing,
        own.requests_held if claim.requests_limit >= 0 else -1,
        account.requests.units,
        requests,
        own.tokens_held if claim.tokens_limit >= 0 else -1,
        account.tokens.units,
        tokens,
        own.places_held if claim.places_limit >= 0 else -1,
        places,
        own.money_held if claim.money_limit >= 0 else -1,
        account.money_spent,
        money,
        account.money_period,
        alert,
        account.born,
    )
    return made(Grant, fields)


def _alert(account: _Account, limit: int, refused: bool) -> int:
    spent = account.money_spent
    reached = 0
    if spent >= limit or (refused and spent * 2 >= limit):  # else the request was large, not the rest small
        reached = 100
    elif spent * 5 >= limit * 4:
        reached = 80
    elif spent * 2 >= limit:
        reached = 50
    if limit > account.money_told_limit:  # raised: what it now falls short of may be told again
        account.money_told_limit = limit
        account.money_told = min(account.money_told, reached)
    if reached <= account.money_told:
        return 0
    account.money_told = reached
    return reached
