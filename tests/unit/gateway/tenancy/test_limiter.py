"""Admission as a dialogue: what a tenant with these limits is granted, refused, and told."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateway.errors import QuotaExhausted, RateLimited
from gateway.table import Budget
from gateway.tenancy.limits import UNLIMITED, Lease, seed_budgets
from tests.unit.gateway.tenancy.desk import Desk, tenant

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC).timestamp()
USD = 1_000_000_000


@pytest.fixture
def limiter():
    return Desk()


def test_a_tenant_without_limits_is_always_admitted(limiter):
    leases = {id(limiter.admit(tenant(), 10**9, 10**18, NOON)) for _ in range(1_000)}
    assert leases == {id(UNLIMITED)}
    UNLIMITED.settle(1, 1, NOON)
    assert UNLIMITED.headers == []
    assert limiter.headers(tenant(), NOON) == []


def test_requests_per_minute(limiter):
    who = tenant(rpm=3)
    for _ in range(3):
        limiter.admit(who, 10, 0, NOON)
    with pytest.raises(RateLimited) as caught:
        limiter.admit(who, 10, 0, NOON)
    assert caught.value.message == (
        "Rate limit reached for tenant `support` on requests per min (RPM): Limit 3, Used 3, Requested 1. "
        "Please try again in 20s."
    )
    assert (caught.value.status, caught.value.code, caught.value.retryable) == (429, "rate_limit_exceeded", True)
    assert caught.value.retry_after == 20.0
    with pytest.raises(RateLimited):
        limiter.admit(who, 10, 0, NOON + 19)
    limiter.admit(who, 10, 0, NOON + 20)


def test_tokens_per_minute_are_held_from_admission_to_settlement(limiter):
    who = tenant(tpm=1_000)
    lease = limiter.admit(who, 900, 0, NOON)
    with pytest.raises(RateLimited, match=r"tokens per min \(TPM\): Limit 1000, Used 900, Requested 200"):
        limiter.admit(who, 200, 0, NOON)
    lease.settle(100, 0, NOON)
    limiter.admit(who, 900, 0, NOON)


def test_a_request_larger_than_the_limit_is_told_not_to_come_back(limiter):
    with pytest.raises(RateLimited, match=r"Request too large .*Limit 1000, Requested 1001") as caught:
        limiter.admit(tenant(tpm=1_000), 1_001, 0, NOON)
    assert (caught.value.retryable, caught.value.retry_after) == (False, None)


def test_concurrency_counts_requests_until_they_are_settled(limiter):
    who = tenant(concurrency=2)
    first = limiter.admit(who, 10, 0, NOON)
    limiter.admit(who, 10, 0, NOON)
    with pytest.raises(RateLimited, match=r"requests at the same time: Limit 2, Used 2") as caught:
        limiter.admit(who, 10, 0, NOON)
    assert caught.value.retry_after == 1.0
    first.settle(0, 0, NOON)
    limiter.admit(who, 10, 0, NOON)


def test_a_lease_is_settled_once(limiter):
    who = tenant(concurrency=2, tpm=1_000, budget=Budget(nanousd=USD, per="day", on_exceed="reject"))
    lease = limiter.admit(who, 100, 100, NOON)
    other = limiter.admit(who, 100, 100, NOON)
    lease.settle(10, 7, NOON)
    lease.settle(90, 90, NOON)
    usage = limiter.usage(who, NOON)
    assert (usage.in_flight, usage.tokens_remaining) == (1, 890)
    assert (usage.spent, usage.reserved) == (7, 100)
    other.settle(0, 0, NOON)


@pytest.mark.parametrize(
    ("full", "ask"),
    [
        ({"rpm": 1}, (1, 1)),
        ({"tpm": 100}, (50, 1)),
        ({"concurrency": 1}, (1, 1)),
        ({"budget": Budget(nanousd=100, per="total", on_exceed="reject")}, (1, 50)),
    ],
)
def test_a_refusal_takes_from_no_limit(limiter, full, ask):
    """Each limit in turn is the one that is full; the others are as they were before the refusal."""
    roomy = {"rpm": 100, "tpm": 10_000, "concurrency": 100}
    budget = full.get("budget", Budget(nanousd=10_000, per="total", on_exceed="reject"))
    who = tenant(budget=budget, **{**roomy, **{name: limit for name, limit in full.items() if name != "budget"}})
    limiter.admit(who, 100, 100, NOON)
    before = limiter.usage(who, NOON)
    for _ in range(10):
        with pytest.raises((RateLimited, QuotaExhausted)):
            limiter.admit(who, *ask, NOON)
    assert limiter.usage(who, NOON) == before


def test_the_wait_is_that_of_the_slowest_limit(limiter):
    who = tenant(rpm=60, tpm=60, concurrency=1)
    limiter.admit(who, 60, 0, NOON).settle(60, 0, NOON)
    limiter.admit(tenant(rpm=60, concurrency=1), 0, 0, NOON)
    with pytest.raises(RateLimited, match="TPM") as caught:
        limiter.admit(who, 30, 0, NOON)
    assert caught.value.retry_after == 30.0


def lines(lease: Lease) -> list[str]:
    """Its headers, one by one."""
    return b"\r\n".join(lease.headers).decode().split("\r\n")


def test_the_answer_carries_the_limits_the_tenant_has(limiter):
    assert limiter.admit(tenant("a", concurrency=4), 10, 0, NOON).headers == []
    assert lines(limiter.admit(tenant("b", rpm=60), 10, 0, NOON)) == [
        "x-ratelimit-limit-requests: 60",
        "x-ratelimit-remaining-requests: 59",
        "x-ratelimit-reset-requests: 1s",
    ]
    assert lines(limiter.admit(tenant("c", tpm=6_000), 100, 0, NOON)) == [
        "x-ratelimit-limit-tokens: 6000",
        "x-ratelimit-remaining-tokens: 5900",
        "x-ratelimit-reset-tokens: 1s",
    ]
    both = lines(limiter.admit(tenant("d", rpm=600, tpm=6_000), 100, 0, NOON))
    assert [line.partition(":")[0] for line in both] == [
        f"x-ratelimit-{what}-{kind}" for kind in ("requests", "tokens") for what in ("limit", "remaining", "reset")
    ]


def test_a_refusal_can_carry_the_same_headers(limiter):
    who = tenant(rpm=1)
    lease = limiter.admit(who, 10, 0, NOON)
    with pytest.raises(RateLimited):
        limiter.admit(who, 10, 0, NOON)
    assert limiter.headers(who, NOON) == lease.headers


@pytest.mark.parametrize(
    ("per", "renewal"),
    [("day", "2026-11-22T00:00:00Z"), ("month", "2026-12-01T00:00:00Z"), ("total", "not renewed")],
)
def test_a_used_up_budget_refuses_for_good(limiter, per, renewal):
    who = tenant(budget=Budget(nanousd=5 * USD, per=per, on_exceed="reject"))
    limiter.admit(who, 10, 4 * USD, NOON).settle(10, 4 * USD, NOON)
    with pytest.raises(QuotaExhausted) as caught:
        limiter.admit(who, 10, 2 * USD, NOON)
    assert caught.value.message.startswith("You exceeded your current quota: of the $5.00 ")
    assert "$4.00 is spent and this request may cost $2.00" in caught.value.message
    assert renewal in caught.value.message
    assert (caught.value.status, caught.value.code, caught.value.retryable) == (429, "insufficient_quota", False)
    limiter.admit(who, 10, USD, NOON).settle(10, USD, NOON)
    with pytest.raises(QuotaExhausted):
        limiter.admit(who, 10, 0, NOON)


def test_a_budget_that_is_only_reserved_may_come_free(limiter):
    who = tenant(budget=Budget(nanousd=5 * USD, per="day", on_exceed="reject"))
    lease = limiter.admit(who, 10, 4 * USD, NOON)
    with pytest.raises(RateLimited, match="reserved for its requests in flight") as caught:
        limiter.admit(who, 10, 2 * USD, NOON)
    assert (caught.value.retryable, caught.value.retry_after) == (True, 1.0)
    lease.settle(10, USD, NOON)
    limiter.admit(who, 10, 2 * USD, NOON)


def test_a_budget_is_renewed_with_its_period(limiter):
    who = tenant(budget=Budget(nanousd=USD, per="day", on_exceed="reject"))
    limiter.admit(who, 10, USD, NOON).settle(10, USD, NOON)
    with pytest.raises(QuotaExhausted):
        limiter.admit(who, 10, 1, MIDNIGHT - 0.001)
    assert limiter.admit(who, 10, 1, MIDNIGHT) is not UNLIMITED
    assert limiter.usage(who, MIDNIGHT).spent == 0


def test_small_amounts_are_told_exactly(limiter):
    who = tenant(budget=Budget(nanousd=1_500_000, per="total", on_exceed="reject"))
    with pytest.raises(QuotaExhausted, match=r"\$0\.0015 in all .* \$0\.00 is spent .* cost \$0\.002\."):
        limiter.admit(who, 10, 2_000_000, NOON)


def test_each_part_of_a_budget_is_told_once_per_period(limiter):
    who = tenant(budget=Budget(nanousd=USD, per="day", on_exceed="warn"))

    def spend(cost, now=NOON):
        limiter.admit(who, 10, 0, now).settle(10, cost, now)
        limiter.limiter.tick(now)
        told, limiter.alerts[:] = limiter.alerts[:], []
        return told

    assert spend(USD // 2 - 1) == []
    assert spend(1) == [("support", 50, USD // 2)]
    assert spend(1) == []
    assert spend(USD // 2) == [("support", 100, USD + 1)]
    assert spend(USD) == []
    assert spend(USD * 4 // 5, MIDNIGHT) == [("support", 80, USD * 4 // 5)]


def test_a_refusing_budget_is_told_as_used_up_when_it_first_refuses(limiter):
    who = tenant(budget=Budget(nanousd=100, per="total", on_exceed="reject"))
    limiter.admit(who, 10, 79, NOON).settle(10, 79, NOON)
    with pytest.raises(QuotaExhausted):
        limiter.admit(who, 10, 22, NOON)
    assert limiter.alerts == [("support", 100, 79)]


def test_what_the_ledger_knows_is_told_at_the_first_request(limiter):
    who = tenant(budget=Budget(nanousd=USD, per="total", on_exceed="warn"))
    limiter.limiter.seed(who, 0, 2 * USD)
    limiter.usage(who, NOON)
    limiter.admit(who, 10, 0, NOON)
    limiter.limiter.tick(NOON)
    assert limiter.alerts == [("support", 100, 2 * USD)]


def test_what_arrived_before_midnight_costs_the_new_day_nothing(limiter):
    who = tenant(budget=Budget(nanousd=USD, per="day", on_exceed="reject"))
    late = limiter.admit(who, 10, 100, MIDNIGHT + 0.5)  # it waited for its place
    late.settle(10, 70, MIDNIGHT + 1, MIDNIGHT - 0.001)
    usage = limiter.usage(who, MIDNIGHT + 1)
    assert (usage.spent, usage.reserved) == (0, 0)
    limiter.admit(who, 10, 100, MIDNIGHT + 2).settle(10, 70, MIDNIGHT + 3, MIDNIGHT)
    assert limiter.usage(who, MIDNIGHT + 3).spent == 70


def test_budgets_begin_with_what_the_ledger_says(limiter):
    asked = []

    def spent(tenant, since):
        asked.append((tenant, since))
        return USD

    month = tenant("month", budget=Budget(nanousd=USD, per="month", on_exceed="reject"))
    total = tenant("total", budget=Budget(nanousd=2 * USD, per="total", on_exceed="reject"))
    seed_budgets(limiter.limiter, [month, tenant("none"), total], spent, NOON)
    assert asked == [("month", datetime(2026, 11, 1, tzinfo=UTC).timestamp()), ("total", 0.0)]
    with pytest.raises(QuotaExhausted):
        limiter.admit(month, 10, 1, NOON)
    limiter.admit(total, 10, USD, NOON).settle(10, 5, NOON)

    seed_budgets(limiter.limiter, [month, total], spent, NOON)  # after a reload: nothing new to ask
    assert len(asked) == 2
    assert limiter.usage(total, NOON).spent == USD + 5


def test_the_account_outlives_a_change_of_limits(limiter):
    limiter.admit(tenant(rpm=10, concurrency=1), 10, 0, NOON)
    with pytest.raises(RateLimited, match="same time"):
        limiter.admit(tenant(rpm=1_000, concurrency=1), 10, 0, NOON)
    assert limiter.usage(tenant(rpm=1_000), NOON).requests_remaining == 999


def test_a_token_limit_that_comes_and_goes_strands_nothing(limiter):
    metered, free = tenant(tpm=1_000, concurrency=9), tenant(concurrency=9)
    before = limiter.admit(metered, 600, 0, NOON)
    unmetered = limiter.admit(free, 600, 0, NOON)
    before.settle(100, 0, NOON)
    unmetered.settle(500, 0, NOON)  # was not counted when it began
    usage = limiter.usage(metered, NOON)
    assert (usage.in_flight, usage.tokens_remaining) == (0, 900)


def test_a_budget_that_comes_and_goes_strands_nothing(limiter):
    budget = Budget(nanousd=USD, per="total", on_exceed="reject")
    paid, free = tenant(budget=budget, concurrency=9), tenant(concurrency=9)
    limiter.admit(paid, 10, 500, NOON).settle(10, 400, NOON)
    limiter.admit(free, 10, 500, NOON).settle(10, 30, NOON)
    limiter.limiter.tick(NOON)
    limiter.key(paid, NOON)
    seed_budgets(limiter.limiter, [paid], lambda *_: 430, NOON)  # the ledger has the 30 as well
    usage = limiter.usage(paid, NOON)
    assert (usage.spent, usage.reserved) == (430, 0)


def test_tenants_do_not_share(limiter):
    limiter.admit(tenant("a", rpm=1), 10, 0, NOON)
    limiter.admit(tenant("b", rpm=1), 10, 0, NOON)
    with pytest.raises(RateLimited, match="`a`"):
        limiter.admit(tenant("a", rpm=1), 10, 0, NOON)


def test_removed_tenants_are_forgotten_when_nothing_of_theirs_runs(limiter):
    stays, idle, busy = (replace(tenant(rpm=1), name=name) for name in ("stays", "idle", "busy"))
    limiter.admit(stays, 10, 0, NOON).settle(10, 0, NOON)
    limiter.admit(idle, 10, 0, NOON).settle(10, 0, NOON)
    lease = limiter.admit(busy, 10, 0, NOON)
    limiter.limiter.tick(NOON)
    limiter.limiter.retain({"stays": stays})
    limiter.limiter.tick(NOON)
    assert limiter.usage(stays, NOON).requests_remaining == 0
    assert limiter.usage(idle, NOON).requests_remaining == 1
    assert limiter.usage(busy, NOON).requests_remaining == 0
    lease.settle(10, 0, NOON)
    limiter.limiter.tick(NOON)
    limiter.limiter.tick(NOON)
    assert limiter.usage(busy, NOON).requests_remaining == 1
    assert not limiter.limiter.knows(idle, 0)


def test_a_large_request_does_not_tell_that_the_budget_is_used_up(limiter):
    who = tenant(budget=Budget(nanousd=100, per="total", on_exceed="reject"))
    limiter.admit(who, 10, 49, NOON).settle(10, 49, NOON)
    with pytest.raises(QuotaExhausted):
        limiter.admit(who, 10, 52, NOON)
    assert limiter.alerts == []
    limiter.admit(who, 10, 31, NOON).settle(10, 31, NOON)
    limiter.usage(who, NOON)
    assert limiter.alerts == [("support", 80, 80)]


@pytest.mark.parametrize(
    ("before", "after", "tokens"), [({"rpm": 1_200}, {"rpm": 60}, 0), ({"tpm": 12_000}, {"tpm": 600}, 10)]
)
def test_a_lower_limit_is_met_with_the_room_there_was(limiter, before, after, tokens):
    for _ in range(1_200):
        limiter.admit(tenant(**before), tokens, 0, NOON).settle(tokens, 0, NOON)
    with pytest.raises(RateLimited):
        limiter.admit(tenant(**after), tokens, 0, NOON)
    with pytest.raises(RateLimited) as refused:
        limiter.admit(tenant(**after), tokens, 0, NOON)
    assert refused.value.retry_after == 1
    limiter.admit(tenant(**after), tokens, 0, NOON + 1)


def test_a_lower_limit_keeps_what_was_used_of_the_higher(limiter):
    limiter.admit(tenant(tpm=1_000), 100, 0, NOON).settle(1_500, 0, NOON)
    with pytest.raises(RateLimited) as refused:
        limiter.admit(tenant(tpm=600), 1, 0, NOON)
    assert refused.value.retry_after == pytest.approx(50.1)


def test_a_lower_limit_of_places_lets_what_runs_finish(limiter):
    running = [limiter.admit(tenant(concurrency=4), 1, 0, NOON) for _ in range(4)]
    for lease in running[:2]:
        lease.settle(1, 0, NOON)
        with pytest.raises(RateLimited):
            limiter.admit(tenant(concurrency=2), 1, 0, NOON)
    running[2].settle(1, 0, NOON)
    limiter.admit(tenant(concurrency=2), 1, 0, NOON)


def test_a_long_wait_is_told_in_plain_digits(limiter):
    who = tenant(tpm=10)
    limiter.admit(who, 1, 0, NOON).settle(400, 0, NOON)
    with pytest.raises(RateLimited, match=r"Please try again in 2346s\."):
        limiter.admit(who, 1, 0, NOON)
