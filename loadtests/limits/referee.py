"""What has to hold of what happened. Pure: everything is handed in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from loadtests.limits.events import ADMITTED, FAILED, LAG, REFUSED, SETTLED, Event
from loadtests.soak.checks import Check
from loadtests.stats import percentile

LEAST_UTILISATION = 0.95
RETURN = 1.5  # seconds after which all have told what they did while Redis was away


class Story(NamedTuple):
    """What one process wrote, and when it was killed."""

    events: Sequence[Event]
    killed: float


class Use(NamedTuple):
    at: float
    amount: int


class Account(NamedTuple):
    """What the store says at the end."""

    tenant: str
    held: int  # requests, tokens, places and money, together
    spent: int


def most_over(uses: Iterable[Use], limit: int) -> float:
    """By how much the fullest span of time passes `limit` and what comes free in that time; negative when none does."""
    level, last, most = 0.0, 0.0, float("-inf")
    for at, amount in sorted(uses):
        level = max(0.0, level - (at - last) * limit / 60) + amount
        last = at
        most = max(most, level - limit)
    return most


def admitted(stories: Sequence[Story], tenant: int) -> list[Use]:
    return [Use(one.at, 1) for story in stories for one in story.events if (one.kind, one.tenant) == (ADMITTED, tenant)]


def used(stories: Sequence[Story], tenant: int) -> tuple[list[Use], list[Use]]:
    """Tokens, and money: as it was settled, or all that was reserved when the process was killed with it."""
    tokens: list[Use] = []
    money: list[Use] = []
    for events, killed in stories:
        running: dict[int, Event] = {}
        for one in events:
            if one.tenant != tenant:
                continue
            if one.kind == ADMITTED:
                running[one.lease] = one
            elif one.kind == SETTLED:
                del running[one.lease]
                tokens.append(Use(one.at, one.tokens))
                money.append(Use(one.at, one.money))
        tokens += [Use(killed, one.tokens) for one in running.values()]
        money += [Use(killed, one.money) for one in running.values()]
    return tokens, money


def most_at_once(stories: Sequence[Story], tenant: int) -> int:
    """Of processes that live."""
    changes: list[tuple[float, int]] = []
    for events, killed in stories:
        running = 0
        for one in events:
            if one.tenant == tenant and one.kind in (ADMITTED, SETTLED):
                change = 1 if one.kind == ADMITTED else -1
                running += change
                changes.append((one.at, change))
        changes.append((killed, -running))
    most = count = 0
    for _, change in sorted(changes):
        count += change
        most = max(most, count)
    return most


def most_reserved(stories: Sequence[Story], tenant: int) -> int:
    """The most that was at any moment spent and reserved."""
    changes: list[tuple[float, int]] = []
    for events, _ in stories:
        running: dict[int, int] = {}
        for one in events:
            if one.tenant != tenant:
                continue
            if one.kind == ADMITTED:
                running[one.lease] = one.money
                changes.append((one.at, one.money))
            elif one.kind == SETTLED:
                changes.append((one.at, one.money - running.pop(one.lease)))
    most = count = 0
    for _, change in sorted(changes):
        count += change
        most = max(most, count)
    return most


def unheard(stories: Sequence[Story], tenant: int, pauses: Sequence[tuple[float, float]]) -> int:
    """Requests of those that were killed while Redis was paused: what they had admitted alone, nobody heard of."""
    count = 0
    for events, killed in stories:
        since = [began for began, ended in pauses if began <= killed < ended + RETURN]
        if since:
            count += sum(1 for one in events if (one.kind, one.tenant) == (ADMITTED, tenant) and one.at >= since[0])
    return count


def lags(stories: Sequence[Story]) -> list[float]:
    """Seconds, in order."""
    return sorted(one.lease / 1e6 for story in stories for one in story.events if one.kind == LAG)


def within(what: str, over: float, limit: int, doubt: float) -> Check:
    """`doubt` is what came free while an admission was on its way to the file, and what was never heard of."""
    said = f"{over + limit:.0f} of {limit} at the fullest moment, {doubt:.0f} in doubt"
    return Check(f"{what}: overshoot 0", over <= doubt, said)


def utilisation(what: str, uses: Iterable[Use], limit: int, since: float, until: float) -> Check:
    """Of what drains of the limit in a span of time in which more is asked for."""
    amount = sum(one.amount for one in uses if since <= one.at < until)
    share = amount / (limit * (until - since) / 60)
    return Check(f"{what}: used while all is well", share >= LEAST_UTILISATION, f"{share:.1%} in {until - since:.0f} s")


def places(most: int, limit: int) -> Check:
    return Check("concurrency: overshoot 0", most <= limit, f"{most} of {limit} at most")


def places_used(stories: Sequence[Story], tenant: int, limit: int, since: float, until: float) -> Check:
    """Only told: a place is idle for as long as the one who gets it next does not know."""
    busy = 0.0
    for events, _ in stories:
        began: dict[int, float] = {}
        for one in events:
            if one.tenant != tenant:
                continue
            if one.kind == ADMITTED:
                began[one.lease] = one.at
            elif one.kind == SETTLED:
                busy += max(0.0, min(until, one.at) - max(since, began.pop(one.lease)))
    share = busy / (limit * (until - since))
    return Check("concurrency: used while all is well", share > 0.0, f"{share:.1%} in {until - since:.0f} s")


def money(most: int, budget: int) -> Check:
    return Check("budget: overshoot 0", most <= budget, f"{most} of {budget} nano-USD spent and reserved at most")


def outstanding(accounts: Sequence[Account]) -> Check:
    held = {one.tenant: one.held for one in accounts}
    return Check("outstanding 0 at the end", not any(held.values()), ", ".join(f"{n} {v}" for n, v in held.items()))


def agreed(spent: int, account: Account, budget: int) -> Check:
    """The dead are charged what they held, which is what they spent or more."""
    said = f"{spent} spent, {account.spent} in the store, of {budget}"
    return Check("the store knows of all that was spent", spent <= account.spent <= budget, said)


def nothing_failed(stories: Sequence[Story], ended: int) -> Check:
    failed = sum(1 for story in stories for one in story.events if one.kind == FAILED)
    said = f"{failed} errors, {ended} processes ended by themselves"
    return Check("no error but 429", not failed and not ended, said)


def refused(stories: Sequence[Story]) -> int:
    return sum(one.lease for story in stories for one in story.events if one.kind == REFUSED)


def late(lags: Sequence[float]) -> float:
    """Seconds by which next to nothing is later in the file than it was."""
    return percentile(lags, 0.999) if lags else 0.0
