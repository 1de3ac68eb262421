"""What of one account this process may hand out by itself, and what it has used of it.

The book (`book.py`) says how much is held; between two claims the process admits requests from that alone, in a few
comparisons and without asking anybody. Times are Unix milliseconds, money is nano-USD.
"""

from __future__ import annotations

from typing import Final

from gateway.table import Budget, Limits
from gateway.tenancy.book import MINUTE, Claim, Grant
from gateway.tenancy.budget import period
from gateway.tenancy.pace import LEARNING, Pace
from gateway.tuples import made

HORIZON: Final = 500  # milliseconds of its own demand that a process would like to hold ahead
MONEY_HORIZON: Final = 2_000  # the same for money
REFILL: Final = 4  # more is asked for when less than this part of it is left
PLACES_AHEAD: Final = 8  # one place is held ahead for so many in use
FEW_PLACES: Final = 16  # of so few, each that is idle is missed
ALONE_PERCENT: Final = 80  # of its part of a limit that a process uses while it can not ask the others
ALONE_PAUSE: Final = 1_000  # milliseconds with only what was granted before: the others may not be alone yet
PLACES_PAUSE: Final = 10_000  # the same for places: those that had more than their part have requests under way


class Allotment:
    """`*_free` may be handed out, `*_inuse` is reserved by requests under way, `*_used` counts for ever, and of it
    `*_acked` is what the book has confirmed."""

    __slots__ = (
        "_away_at",
        "_away_requests",
        "_away_requests_acked",
        "_away_requests_level",
        "_away_tokens",
        "_away_tokens_acked",
        "_away_tokens_level",
        "_given_up",
        "_money_born",
        "_money_pace",
        "_places_part",
        "_places_peak",
        "_requests_pace",
        "_tokens_pace",
        "_used_at",
        "budget",
        "heard_at",
        "is_alone",
        "limits",
        "low_money",
        "low_places",
        "low_requests",
        "low_tokens",
        "money_acked",
        "money_end",
        "money_free",
        "money_inuse",
        "money_period",
        "money_seen",
        "money_sure",
        "money_used",
        "name",
        "places_free",
        "places_inuse",
        "requests_acked",
        "requests_drained",
        "requests_free",
        "requests_used",
        "seed",
        "seed_period",
        "tokens_acked",
        "tokens_drained",
        "tokens_free",
        "tokens_inuse",
        "tokens_used",
        "view",
        "written",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.written = Limits()  # as last seen
        self.limits = self.written  # in effect: this process's part of them while it is alone
        self.is_alone = False
        self.budget: Budget | None = None
        self.requests_free = self.requests_used = self.requests_acked = 0
        self.tokens_free = self.tokens_inuse = self.tokens_used = self.tokens_acked = 0
        self.places_free = self.places_inuse = self._places_peak = 0
        self._given_up = 0  # places that more were held than the limit has, since the book was heard
        self.money_free = self.money_inuse = self.money_used = self.money_acked = 0
        self.money_period = -1
        self.money_end = 0
        self.money_seen = 0
        self._money_born = 0  # the account that said so, if one did
        self.money_sure = -1  # what the book said, where the ledger is sure to know better
        self.seed_period = -1  # a period the ledger was asked about
        self.seed = 0
        self.view: Grant | None = None
        self.heard_at = 0
        self.low_requests = self.low_tokens = self.low_places = self.low_money = 0
        self.requests_drained = self.tokens_drained = 0  # of what was used, what the book need not hear of any more
        self._away_requests = self._away_tokens = 0  # used when the book went away
        self._away_requests_acked = self._away_tokens_acked = 0
        self._away_at = self._away_requests_level = self._away_tokens_level = 0  # as the book last said
        self._places_part = 0
        self._used_at = 0
        self._requests_pace = Pace()
        self._tokens_pace = Pace()
        self._money_pace = Pace()

    # Handing out

    def fits(self, tokens: int, money: int, now: int) -> bool:
        limits, budget = self.limits, self.budget
        if budget is not None and now >= self.money_end:
            self.enter(now)
        if limits.rpm is not None and self.requests_free < 1:
            return False
        if limits.tpm is not None and self.tokens_free < tokens:
            return False
        if limits.concurrency is not None and self.places_free < 1:
            return False
        return budget is None or budget.on_exceed == "warn" or self.affords(money)

    def affords(self, money: int) -> bool:
        """Of a budget that refuses. What is free at no cost is refused too once nothing is left."""
        return self.money_free >= money and (money > 0 or self.money_free > 0 or not self._is_spent())

    def _is_spent(self) -> bool:
        budget = self.budget
        if budget is None or (self.view is None and not self.is_alone):
            return True
        return self.money_seen + self.money_used - self.money_acked >= budget.nanousd

    def take(self, tokens: int, money: int, now: int) -> None:
        """The caller has asked `fits` in the same breath."""
        limits, budget = self.limits, self.budget
        if limits.rpm is not None:
            self.requests_free -= 1
            self.requests_used += 1
            self._requests_pace.take(1)
            self._used_at = now
        if limits.tpm is not None:
            self.tokens_free -= tokens
            self.tokens_inuse += tokens
            self._tokens_pace.take(tokens)
        if limits.concurrency is not None:
            self.places_free -= 1
        self.places_inuse += 1
        if self.places_inuse > self._places_peak:
            self._places_peak = self.places_inuse
        if budget is not None:
            if budget.on_exceed == "reject":
                self.money_free -= money
                self._money_pace.take(money)
            self.money_inuse += money

    def settle(
        self, taken: Limits, reserved: int, tokens: int, reserved_money: int, money: int, of_period: int, now: int
    ) -> None:
        """Ends a request that was taken under the limits `taken`: what it used instead of what it had reserved."""
        self.places_inuse -= 1
        if taken.concurrency is not None:
            self._free_place()
        if taken.tpm is not None:
            self.tokens_inuse -= reserved
            self.tokens_used += tokens
            if tokens < reserved:
                self.tokens_free += reserved - tokens
            self._used_at = now
        if of_period == self.money_period and of_period >= 0:
            self.money_inuse -= reserved_money
            self.money_used += money
            if money < reserved_money:
                self.money_free += reserved_money - money

    def cancel(self, taken: Limits, reserved: int, money: int, of_period: int, *, told: bool) -> None:
        """Undoes `take`. A request that the book may have been `told` of stays counted."""
        self.places_inuse -= 1
        if taken.concurrency is not None:
            self._free_place()
        if taken.rpm is not None and not told and self.requests_used > self.requests_acked:
            self.requests_used -= 1
            self.requests_free += 1
        if taken.tpm is not None:
            self.tokens_inuse -= reserved
            self.tokens_free += reserved
        if of_period == self.money_period and of_period >= 0:
            self.money_inuse -= money
            self.money_free += money

    def _free_place(self) -> None:
        """It may be handed out again, unless more places are held than there are: the limit was lowered."""
        view, limit = self.view, self.limits.concurrency
        if view is not None and limit is not None and view.places_total - self._given_up > limit:
            self._given_up += 1
        else:
            self.places_free += 1

    def more_money(self, money: int) -> bool:
        """Adds to what a request under way has reserved, if it is there. A budget that has come to warn only, by a
        change while the request ran, stops nobody."""
        budget = self.budget
        if budget is None or budget.on_exceed == "reject":
            if self.money_free < money:
                return False
            self.money_free -= money
            self._money_pace.take(money)
        self.money_inuse += money
        return True

    # The book

    def rewrite(self, limits: Limits) -> bool:
        """The limits as they are written now; whether they are others than before. What is free was granted under those
        and is not handed out any more."""
        if limits == self.written:
            return False
        self.written = limits
        self.requests_free = self.tokens_free = self.places_free = 0
        return True

    def enter(self, now: int) -> None:
        """Moves on to the budget's period that `now` lies in. A clock that is set back keeps the period it reached."""
        budget = self.budget
        if budget is None or (self.money_period >= 0 and now < self.money_end):
            return
        start, end = period(budget.per, now)
        if start > self.money_period:
            self._begin(start)
        self.money_end = end

    def _begin(self, start: int) -> None:
        self.money_period = start
        self.money_free = self.money_inuse = self.money_used = self.money_acked = 0
        self.money_sure = -1
        self.money_seen = self.seed if self.seed_period == start else 0
        self._money_born = 0

    def claim(self, now: int, *, keep: bool, near: bool = False) -> Claim:
        """What to tell the book. What is free is given back with it; with `keep`, what it is likely to need stays.
        `near` is the book that a process keeps while it is alone; the budget is none of its affairs."""
        limits, budget = self.limits, self.budget
        requests_drained = 0 if near else self.requests_drained
        tokens_drained = 0 if near else self.tokens_drained
        money = not near
        self.enter(now)
        requests_want = self._requests_pace.ahead(HORIZON, now)
        tokens_want = self._tokens_pace.ahead(HORIZON, now)
        money_want = self._money_pace.ahead(MONEY_HORIZON, now)
        places_want = self._places_ahead(now)
        self.requests_free = min(self.requests_free, requests_want) if keep else 0
        self.tokens_free = min(self.tokens_free, tokens_want) if keep else 0
        self.places_free = min(self.places_free, places_want) if keep else 0
        if money:
            self.money_free = min(self.money_free, money_want) if keep else 0
        refuses = budget is not None and budget.on_exceed == "reject"
        fields = (
            max(0, now - self._used_at),
            -1 if limits.rpm is None else limits.rpm,
            self.requests_used - requests_drained,
            self.requests_acked - requests_drained,
            self.requests_free,
            requests_want - self.requests_free,
            0 if near else self._requests_seen(now),
            -1 if limits.tpm is None else limits.tpm,
            self.tokens_used - tokens_drained,
            self.tokens_acked - tokens_drained,
            self.tokens_inuse + self.tokens_free,
            tokens_want - self.tokens_free,
            0 if near else self._tokens_seen(now),
            -1 if limits.concurrency is None else limits.concurrency,
            self.places_inuse + self.places_free,
            places_want - self.places_free,
            -1 if budget is None or not money else budget.nanousd,
            1 if refuses else 0,
            self.money_used,
            self.money_acked,
            self.money_inuse + self.money_free,
            money_want - self.money_free if refuses else 0,
            self.money_period,
            self.money_seen,
            self._money_born,
            self.seed if self.seed_period == self.money_period else 0,
            self.money_sure if money and self.is_settled() and self.seed_period == self.money_period else -1,
        )
        return made(Claim, fields)

    def _places_ahead(self, now: int) -> int:
        """One for some of those in use; and as many as there were of late while most of the places are free anyway."""
        inuse, peak = self.places_inuse, self._places_peak
        some = -(-inuse // PLACES_AHEAD)
        fading = peak - inuse
        if fading > 0:
            self._places_peak = inuse + fading * max(0, LEARNING - (now - self.heard_at)) // LEARNING
        limit, view = self.limits.concurrency, self.view
        if limit is None or view is None or self._is_scarce(limit, view):
            return some
        return max(some, peak - inuse + some)

    def _is_scarce(self, limit: int, view: Grant) -> bool:
        return 2 * view.places_total > limit or (view.sharing > 1 and limit <= FEW_PLACES)

    def hoards(self) -> bool:
        """Whether it holds idle places that another process may be asked for."""
        limit, view = self.limits.concurrency, self.view
        if limit is None or view is None or view.sharing < 2 or not self._is_scarce(limit, view):
            return False
        return self.places_free > -(-self.places_inuse // PLACES_AHEAD)

    def hear(self, claim: Claim, grant: Grant, now: int, *, near: bool = False) -> None:
        """The book's answer to `claim`, the last one made."""
        if claim.requests_limit >= 0:
            self.requests_free += grant.requests_held - claim.requests_held
            self.requests_acked = claim.requests_used + (0 if near else self.requests_drained)
        if claim.tokens_limit >= 0:
            self.tokens_free += grant.tokens_held - claim.tokens_held
            self.tokens_acked = claim.tokens_used + (0 if near else self.tokens_drained)
        if claim.places_limit >= 0:
            self.places_free += grant.places_held - claim.places_held
            self._given_up = max(0, min(self.places_free, grant.places_total - claim.places_limit))
            self.places_free -= self._given_up
        self._hear_money(claim, grant)
        self.view = grant
        self.heard_at = now
        self.low_requests, self.low_tokens = self.requests_free // REFILL, self.tokens_free // REFILL
        self.low_places, self.low_money = self.places_free // REFILL, self.money_free // REFILL

    def _hear_money(self, claim: Claim, grant: Grant) -> None:
        if claim.money_limit < 0:
            return
        self.money_sure = -1
        if grant.money_period > self.money_period:  # its clock is ahead of ours
            self._begin(grant.money_period)
            self.money_seen, self._money_born = grant.money_spent, grant.born
        elif claim.money_period == self.money_period == grant.money_period:
            self.money_free += grant.money_held - claim.money_held
            self.money_acked = claim.money_used
            self.money_seen, self._money_born = grant.money_spent, grant.born

    def is_low(self) -> bool:
        """Whether so little is left of what the book last granted that more should be on its way."""
        return (
            self.requests_free < self.low_requests
            or self.tokens_free < self.low_tokens
            or self.places_free < self.low_places
            or self.money_free < self.low_money
        )

    # Alone

    def alone(self, sharing: int, since: int) -> tuple[int, int]:
        """The book is away: from `since` on the process keeps to its part of the limits. Returns the levels of requests
        and tokens to begin with. What the others have used of late is not known, so of its part is free only what the
        book has granted already. Money stays what was granted; no more of it comes."""
        rpm, tpm, concurrency = self.written.rpm, self.written.tpm, self.written.concurrency
        rpm_part = 0 if rpm is None else _part(rpm, sharing)
        tpm_part = 0 if tpm is None else _part(tpm, sharing)
        self._places_part = 0 if concurrency is None else _part(concurrency, sharing)
        requests_level = max(0, rpm_part - self.requests_free) * MINUTE + rpm_part * ALONE_PAUSE
        tokens_level = max(0, tpm_part - self.tokens_free - self.tokens_inuse) * MINUTE + tpm_part * ALONE_PAUSE
        self._away_requests, self._away_tokens = self.requests_used, self.tokens_used
        self._away_requests_acked, self._away_tokens_acked = self.requests_acked, self.tokens_acked
        self.requests_acked, self.tokens_acked = self.requests_used, self.tokens_used
        self.limits = Limits(
            None if rpm is None else rpm_part,
            None if tpm is None else tpm_part,
            None if concurrency is None else min(self._places_part, self.places_inuse + self.places_free),
        )
        if self.view is not None and not self.is_alone:
            self._away_at = self.heard_at
            self._away_requests_level, self._away_tokens_level = self.view.requests_level, self.view.tokens_level
        self.is_alone = True
        self.requests_free = self.tokens_free = self.places_free = 0
        inuse, places = self.tokens_inuse, self.places_inuse
        self.view = Grant(1, 0, requests_level, 0, inuse, tokens_level, inuse, places, places, 0, 0, 0, -1, 0, 0)
        self.heard_at = since
        return requests_level, tokens_level

    def all_places(self) -> None:
        """Alone for long enough: the others have come down to their parts."""
        if self.written.concurrency is not None:
            self.limits = Limits(self.limits.rpm, self.limits.tpm, self._places_part)

    def tell(self, until: int, now: int) -> Claim:
        """The book is back, but the process stays by itself until `until`: what it has used, and as held all that it
        may use till then. What has drained from its part of a limit has drained from all of it."""
        limits, budget = self.limits, self.budget
        rpm, tpm = limits.rpm or 0, limits.tpm or 0
        requests_room, tokens_room = self.requests_room(now), self.tokens_room(now)
        level = max(0, -((requests_room - rpm * MINUTE) // MINUTE))
        drained = max(0, self.requests_used - self._away_requests - level)
        self.requests_drained += drained
        self._away_requests += drained
        self._away_requests_acked += drained
        level = max(0, -((tokens_room - tpm * MINUTE) // MINUTE) - self.tokens_inuse)
        drained = max(0, self.tokens_used - self._away_tokens - level)
        self.tokens_drained += drained
        self._away_tokens += drained
        self._away_tokens_acked += drained
        span = until - now
        self.enter(now)
        return Claim(
            0,
            -1 if self.written.rpm is None else self.written.rpm,
            self.requests_used - self.requests_drained,
            self._away_requests_acked - self.requests_drained,
            -(-(max(0, requests_room) + rpm * span) // MINUTE),
            0,
            _drained(self._away_requests_level, self._away_at, self.written.rpm or 0, now),
            -1 if self.written.tpm is None else self.written.tpm,
            self.tokens_used - self.tokens_drained,
            self._away_tokens_acked - self.tokens_drained,
            self.tokens_inuse - (-(max(0, tokens_room) + tpm * span) // MINUTE),
            0,
            _drained(self._away_tokens_level, self._away_at, self.written.tpm or 0, now),
            -1 if self.written.concurrency is None else self.written.concurrency,
            max(self.places_inuse, limits.concurrency or 0),
            0,
            -1 if budget is None else budget.nanousd,
            1 if budget is not None and budget.on_exceed == "reject" else 0,
            self.money_used,
            self.money_acked,
            self.money_inuse + self.money_free,
            0,
            self.money_period,
            self.money_seen,
            self._money_born,
            self.seed if self.seed_period == self.money_period else 0,
            -1,
        )

    def told(self, claim: Claim, grant: Grant, now: int) -> None:
        """The book's answer to `tell`."""
        self._away_requests_acked = claim.requests_used + self.requests_drained
        self._away_tokens_acked = claim.tokens_used + self.tokens_drained
        self._away_at, self._away_requests_level, self._away_tokens_level = (
            now,
            grant.requests_level,
            grant.tokens_level,
        )
        self._hear_money(claim, grant)

    def together(self) -> None:
        """From now on it asks the book again."""
        self.limits = self.written
        self.is_alone = False
        self.requests_free = self.tokens_free = self.places_free = 0
        self.requests_acked, self.tokens_acked = self._away_requests_acked, self._away_tokens_acked
        self.view = None

    # How it stands

    def requests_room(self, now: int) -> int:
        """Units of MINUTE to a request that could be granted now; below zero when the limit is overdrawn."""
        limit, view = self.limits.rpm or 0, self.view
        if view is None:
            return limit * MINUTE
        level = view.requests_level - max(0, now - self.heard_at) * limit
        return (limit - view.requests_total + self.requests_free) * MINUTE - (level if level > 0 else 0)

    def tokens_room(self, now: int) -> int:
        limit, view = self.limits.tpm or 0, self.view
        if view is None:
            return limit * MINUTE
        level = view.tokens_level - max(0, now - self.heard_at) * limit
        return (limit - view.tokens_total + self.tokens_free) * MINUTE - (level if level > 0 else 0)

    def _requests_seen(self, now: int) -> int:
        if self.view is None:
            return _drained(self._away_requests_level, self._away_at, self.limits.rpm or 0, now)
        return _drained(self.view.requests_level, self.heard_at, self.limits.rpm or 0, now)

    def _tokens_seen(self, now: int) -> int:
        if self.view is None:
            return _drained(self._away_tokens_level, self._away_at, self.limits.tpm or 0, now)
        return _drained(self.view.tokens_level, self.heard_at, self.limits.tpm or 0, now)

    def places_room(self) -> int:
        limit, view = self.limits.concurrency or 0, self.view
        return limit if view is None else max(0, limit - view.places_total + self.places_free)

    def has_news(self) -> bool:
        """Whether the book has not heard of all that was used, or more is held than is in use."""
        return (
            self.requests_used != self.requests_acked
            or self.tokens_used != self.tokens_acked
            or self.money_used != self.money_acked
            or self.requests_free > 0
            or self.tokens_free > 0
            or self.money_free > 0
            or self.places_free > 0
            or self._given_up > 0
        )

    def is_settled(self) -> bool:
        """Whether nothing is under way, and the book has heard what all came to."""
        return self.places_inuse == 0 and self.money_used == self.money_acked

    def is_idle(self) -> bool:
        return self.places_inuse == 0 and not self.has_news()


def _drained(level: int, since: int, limit: int, now: int) -> int:
    """A level in units as it is now, in whole requests or tokens."""
    level -= max(0, now - since) * limit
    return -(-level // MINUTE) if level > 0 else 0


def _part(limit: int, sharing: int) -> int:
    """Of what is there for all, the part of one of so many processes that can not ask each other."""
    return limit * ALONE_PERCENT // (100 * sharing)
