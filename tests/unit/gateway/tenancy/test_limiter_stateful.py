"""Leases admitted and settled in any order, in virtual time, against a plain account of what was granted."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from gateway.errors import QuotaExhausted, RateLimited
from gateway.table import Budget, Limits, Tenant
from tests.unit.gateway.tenancy.desk import Desk

RPM, TPM, CONCURRENCY, BUDGET = 20, 1_000, 4, 10_000
NOON = 1_790_000_000.0
TENANT = Tenant(
    name="support",
    models=None,
    limits=Limits(rpm=RPM, tpm=TPM, concurrency=CONCURRENCY),
    budget=Budget(nanousd=BUDGET, per="total", on_exceed="reject"),
    weight=1.0,
    tier="standard",
)


class Leases(RuleBasedStateMachine):
    """Requests use at most what they reserved, so no limit may be passed at any moment."""

    running = Bundle("running")
    ended = Bundle("ended")

    def __init__(self):
        super().__init__()
        self.limiter = Desk()
        self.now = NOON
        self.open = {}  # lease -> (tokens, cost) reserved
        self.admissions = []
        self.settled = []  # (time, tokens)
        self.spent = 0

    @rule(seconds=st.floats(0, 100))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(target=running, tokens=st.integers(0, 1_100), cost=st.integers(0, 3_000))
    def a_request_comes(self, tokens, cost):
        before = self.limiter.usage(TENANT, self.now)
        fits = (
            before.requests_remaining >= 1
            and before.tokens_remaining >= tokens
            and before.in_flight < CONCURRENCY
            and before.spent + before.reserved + cost <= BUDGET
            and before.spent < BUDGET
        )
        try:
            lease = self.limiter.admit(TENANT, tokens, cost, self.now)
        except (RateLimited, QuotaExhausted):
            assert not fits
            assert self.limiter.usage(TENANT, self.now) == before
            lease = None
        else:
            assert fits
            self.open[lease] = tokens, cost
            self.admissions.append(self.now)
        return lease

    @rule(target=ended, lease=consumes(running), share=st.floats(0, 1))
    def a_request_ends(self, lease, share):
        if lease is not None:
            tokens, cost = (int(reserved * share) for reserved in self.open.pop(lease))
            lease.settle(tokens, cost, self.now)
            self.settled.append((self.now, tokens))
            self.spent += cost
        return lease

    @rule(lease=ended, tokens=st.integers(0, 5_000))
    def it_is_settled_again(self, lease, tokens):
        if lease is not None:
            lease.settle(tokens, tokens, self.now)

    @invariant()
    def the_account_is_what_was_granted(self):
        usage = self.limiter.usage(TENANT, self.now)
        assert usage.in_flight == len(self.open) <= CONCURRENCY
        assert usage.reserved == sum(cost for _, cost in self.open.values())
        assert usage.spent == self.spent
        assert usage.spent + usage.reserved <= BUDGET

    @invariant()
    def no_minute_has_more_than_the_burst_and_the_rate(self):
        for index, start in enumerate(self.admissions):
            span = self.admissions[-1] - start
            assert len(self.admissions) - index <= RPM + span * RPM / 60 + 1e-3
        total = 0
        for moment, tokens in reversed(self.settled):
            total += tokens
            assert total <= TPM + (self.settled[-1][0] - moment) * TPM / 60 + 1e-3

    def teardown(self):
        for lease in self.open:
            lease.settle(0, 0, self.now)
        usage = self.limiter.usage(TENANT, self.now + 60)
        assert (usage.in_flight, usage.reserved) == (0, 0)
        assert (usage.requests_remaining, usage.tokens_remaining) == (RPM, TPM)


Leases.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=60)
TestLeases = Leases.TestCase
