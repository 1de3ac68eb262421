"""What a process holds of one account: handed out to the last, given back when it is not needed, and a part of it when
the book is away."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from gateway.table import Budget, Limits
from gateway.tenancy.allotment import PLACES_AHEAD, REFILL, Allotment
from gateway.tenancy.book import Books, Demand
from gateway.tenancy.pace import LEARNING

NOON = int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()) * 1_000
MIDNIGHT = int(datetime(2026, 11, 22, tzinfo=UTC).timestamp()) * 1_000
TTL = 60_000


class Process:
    """One holder of an account in books that others may share."""

    def __init__(self, books: Books, name: str, limits: Limits, budget: Budget | None = None) -> None:
        self._books, self._name, self._seq = books, name, 0
        self.account = Allotment("tenant")
        self.account.written = self.account.limits = limits
        self.account.budget = budget

    def asks(self, now: int, *, requests: int = 0, tokens: int = 0, money: int = 0, keep: bool = False) -> None:
        """One claim, of what is needed now."""
        self._seq += 1
        claim = self.account.claim(now, keep=keep)
        demands = [Demand(1, tokens, 1, money, (0,))] * requests
        (grant,) = self._books.claim("t", self._name, self._seq, TTL, ["tenant"], [claim], demands, now)
        self.account.hear(claim, grant, now)

    def takes(self, now: int, tokens: int = 0, money: int = 0) -> bool:
        if not self.account.fits(tokens, money, now):
            return False
        self.account.take(tokens, money, now)
        return True

    def settles(self, now: int, tokens: int = 0, money: int = 0, reserved: int = 0, reserved_money: int = 0) -> None:
        account = self.account
        account.settle(account.limits, reserved, tokens, reserved_money, money, account.money_period, now)


def process(budget: Budget | None = None, **limits: int) -> Process:
    return Process(Books(), "a", Limits(**limits), budget)


# What is free


def test_without_a_word_of_the_book_nothing_is_free() -> None:
    for one in (process(rpm=5), process(tpm=5), process(concurrency=5)):
        assert not one.takes(NOON, 1)
    paid = process(Budget(100, "total", "reject"))
    assert not paid.takes(NOON, money=1)
    assert not paid.takes(NOON)  # not even what costs nothing: it may be used up


def test_what_only_warns_asks_nobody() -> None:
    warned = process(Budget(100, "total", "warn"))
    assert warned.takes(NOON, money=10**9)


def test_each_kind_is_handed_out_to_the_last() -> None:
    one = process(rpm=100, tpm=100, concurrency=100)
    one.asks(NOON, requests=2, tokens=20)
    assert [one.takes(NOON, 20) for _ in range(3)] == [True, True, False]
    assert (one.account.requests_free, one.account.tokens_free, one.account.places_free) == (0, 0, 0)
    one.settles(NOON, tokens=5, reserved=20)  # the place and the tokens may be used again, the request not
    assert (one.account.requests_free, one.account.tokens_free, one.account.places_free) == (0, 15, 1)


def test_what_is_not_needed_is_given_back_with_the_next_claim() -> None:
    one, books = process(rpm=100, tpm=1_000, concurrency=10), Books()
    other = Process(books, "b", one.account.limits)
    one._books = books  # pyright: ignore[reportPrivateUsage]
    one.asks(NOON, requests=10, tokens=100)
    other.asks(NOON, requests=1, tokens=100)
    assert not other.takes(NOON, 100)
    one.asks(NOON)
    other.asks(NOON, requests=1, tokens=100)
    assert other.takes(NOON, 100)


def test_some_places_are_held_ahead_of_those_in_use() -> None:
    one = process(concurrency=1_000)
    one.asks(NOON, requests=PLACES_AHEAD + 1)
    for _ in range(PLACES_AHEAD + 1):
        assert one.takes(NOON)
    one.asks(NOON + 1)
    assert one.account.places_free == 2


def test_as_many_places_as_there_were_of_late_stay_while_most_are_free_anyway() -> None:
    def after(*claims: int, limit: int = 1_000) -> int:
        one = process(concurrency=limit)
        one.asks(NOON, requests=80)
        assert all([one.takes(NOON) for _ in range(80)])
        for _ in range(80):
            one.settles(NOON)
        for milliseconds in claims:
            one.asks(NOON + milliseconds, keep=True)
        return one.account.places_free

    assert after(1) == 80
    assert after(1, 3) >= 70
    assert 20 <= after(1, 1 + LEARNING // 2, 2 + LEARNING // 2) <= 60
    assert after(1, 1 + LEARNING, 2 + LEARNING) == 0
    assert after(1, limit=100) == 0  # at a narrow limit others may need them


def test_more_is_asked_for_when_little_is_left_of_what_came() -> None:
    one = process(rpm=10_000)
    one.asks(NOON, requests=100)
    for taken in range(100):
        assert one.account.is_low() == (taken > 100 - 100 // REFILL)
        one.takes(NOON)


# Its budget


def test_money_moves_on_with_its_period_and_never_back() -> None:
    one = process(Budget(100, "day", "reject"))
    one.asks(MIDNIGHT - 1, requests=1, money=80)
    assert one.takes(MIDNIGHT - 1, money=80)
    yesterday = one.account.money_period
    assert not one.takes(MIDNIGHT, money=1)  # what was free is yesterday's
    assert one.account.money_period == MIDNIGHT
    account = one.account
    account.settle(account.limits, 0, 0, 80, 70, yesterday, MIDNIGHT)  # belongs to the day it was admitted in
    assert (account.money_used, account.money_inuse, account.money_free) == (0, 0, 0)
    one.asks(MIDNIGHT, requests=1, money=100)
    assert one.takes(MIDNIGHT - 1, money=100)  # the clock was set back: today's money, still
    assert account.money_period == MIDNIGHT


def test_a_process_whose_clock_is_behind_spends_of_the_period_that_the_book_has_reached() -> None:
    books, budget = Books(), Budget(100, "day", "reject")
    ahead, behind = (Process(books, name, Limits(), budget) for name in "ab")
    ahead.asks(MIDNIGHT + 5, requests=1, money=30)
    assert ahead.takes(MIDNIGHT + 5, money=30)
    behind.asks(MIDNIGHT - 5, requests=1, money=30)
    assert not behind.takes(MIDNIGHT - 5, money=30)  # that was of yesterday
    behind.asks(MIDNIGHT - 4, requests=1, money=70)
    assert behind.takes(MIDNIGHT - 4, money=70)
    behind.settles(MIDNIGHT + 1, money=60, reserved_money=70)
    account = behind.account
    assert (account.money_period, account.money_used, account.money_inuse) == (MIDNIGHT, 60, 0)
    ahead.asks(MIDNIGHT + 6, requests=1, money=20)
    assert not ahead.takes(MIDNIGHT + 6, money=11)


def test_what_costs_nothing_passes_until_the_budget_is_used_up() -> None:
    one = process(Budget(100, "total", "reject"))
    one.asks(NOON, requests=1, money=60)
    assert one.takes(NOON, money=60)
    assert one.takes(NOON)
    one.settles(NOON, money=99, reserved_money=60)
    assert one.takes(NOON)
    one.settles(NOON, money=1)
    assert not one.takes(NOON)


def test_more_money_is_there_or_not_at_once() -> None:
    one = process(Budget(100, "total", "reject"))
    one.asks(NOON, requests=2, money=20)
    assert one.takes(NOON, money=20)
    assert one.account.more_money(20)
    assert not one.account.more_money(1)
    assert (one.account.money_inuse, one.account.money_free) == (40, 0)
    one.settles(NOON, money=30, reserved_money=40)
    assert (one.account.money_inuse, one.account.money_used, one.account.money_free) == (0, 30, 10)


def test_a_budget_that_has_come_to_warn_only_stops_nobody() -> None:
    """By a change of the configuration while a request runs."""
    one = process(Budget(100, "total", "reject"))
    one.asks(NOON, requests=1, money=20)
    assert one.takes(NOON, money=20)
    one.account.budget = Budget(100, "total", "warn")
    assert one.account.more_money(500)
    one.settles(NOON, money=500, reserved_money=520)
    assert (one.account.money_inuse, one.account.money_used) == (0, 500)


@given(
    st.lists(
        st.tuples(st.sampled_from(["ask", "take", "more", "settle"]), st.integers(0, 60), st.integers(0, 60)),
        max_size=60,
    )
)
def test_no_nanousd_is_lost_between_free_in_use_and_used(steps: list[tuple[str, int, int]]) -> None:
    """Requests that cost no more than they reserved never overrun the budget, in whatever order things happen."""
    one, now = process(Budget(100, "total", "reject")), NOON
    account = one.account
    under_way: list[int] = []
    used = 0
    for kind, amount, part in steps:
        now += part
        if kind == "ask":
            one.asks(now, requests=1, money=amount, keep=part % 2 == 0)
        elif kind == "take" and one.takes(now, money=amount):
            under_way.append(amount)
        elif kind == "more" and under_way and account.more_money(amount):
            under_way[-1] += amount
        elif kind == "settle" and under_way:
            reserved = under_way.pop(part % len(under_way))
            cost = min(amount, reserved)
            one.settles(now, money=cost, reserved_money=reserved)
            used += cost
        assert account.money_inuse == sum(under_way)
        assert account.money_used == used
        assert account.money_free >= 0
        assert account.money_used + account.money_inuse + account.money_free <= 100


# Alone


@given(sharing=st.integers(1, 8), rpm=st.integers(1, 500), tpm=st.integers(1, 5_000), places=st.integers(1, 100))
def test_the_parts_of_all_that_are_alone_are_less_than_the_whole(sharing: int, rpm: int, tpm: int, places: int) -> None:
    books, limits = Books(), Limits(rpm, tpm, places)
    processes = [Process(books, str(i), limits) for i in range(sharing)]
    for one in processes * 2:  # the second time with the others known
        one.asks(NOON)
    for one in processes:
        one.account.alone(sharing, NOON)
    parts = [one.account.limits for one in processes]
    assert sum(part.rpm or 0 for part in parts) <= rpm
    assert sum(part.tpm or 0 for part in parts) <= tpm
    assert sum(part.concurrency or 0 for part in parts) <= places


def test_who_is_alone_keeps_the_places_in_use_and_gets_its_part_of_all_later() -> None:
    one = process(concurrency=100)
    one.asks(NOON, requests=20)
    for _ in range(20):
        assert one.takes(NOON)
    one.account.alone(2, NOON)
    assert one.account.limits.concurrency == 20
    one.account.all_places()
    assert one.account.limits.concurrency == 40  # 80 % of half of 100
    assert one.account.written.concurrency == 100
    assert one.account.places_inuse == 20


def test_who_is_alone_has_the_money_it_was_granted_and_no_more() -> None:
    one = process(Budget(100, "total", "reject"))
    one.asks(NOON, requests=1, money=60)
    one.account.alone(2, NOON)
    assert one.takes(NOON, money=60)
    assert not one.takes(NOON, money=1)
    one.account.together()
    assert one.account.money_inuse == 60


# How it stands


def test_room_comes_back_with_time() -> None:
    one = process(rpm=60, tpm=600)
    one.asks(NOON, requests=1, tokens=600)
    assert one.takes(NOON, 600)
    one.settles(NOON, tokens=600, reserved=600)
    one.asks(NOON)
    account = one.account
    assert (account.requests_room(NOON) // 60_000, account.tokens_room(NOON) // 60_000) == (59, 0)
    assert account.tokens_room(NOON + 30_000) // 60_000 == 300
    assert account.tokens_room(NOON + 90_000) // 60_000 == 600
    assert account.tokens_room(NOON - 90_000) // 60_000 == 0  # a clock that was set back makes none


def test_it_is_idle_once_the_book_knows_all_and_holds_nothing_for_it() -> None:
    one = process(Budget(100, "total", "reject"), rpm=60, tpm=600, concurrency=3)
    assert one.account.is_idle()
    one.asks(NOON, requests=1, tokens=10, money=10)
    assert not one.account.is_idle()
    assert one.takes(NOON, 10, 10)
    assert not one.account.is_idle()
    one.settles(NOON, 10, 10, 10, 10)
    assert not one.account.is_idle()
    one.asks(NOON + 10_000)
    one.asks(NOON + 20_000)
    assert one.account.is_idle()
