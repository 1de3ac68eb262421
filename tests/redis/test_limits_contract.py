"""What every limiter promises, asked of each: one process by itself, and three on a Redis or a Redis Cluster.

A tenant's requests go to all processes in turn. What one of them has given back is there for the others soon after, so
the tests insist until they have what they are owed, and then see that there is no more.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest

from gateway.errors import GatewayError, QuotaExhausted, RateLimited
from gateway.state.limits import RedisLimits
from gateway.table import Budget, Key, Limits, Tenant
from gateway.tenancy.limiter import MemoryLimiter
from gateway.tenancy.limits import Lease
from gateway.tenancy.shared import SharedLimiter
from tests.redis.conftest import RedisServer, cluster

pytestmark = pytest.mark.redis

PROCESSES = 3
WITHIN = 8.0  # seconds in which what was given back is there for all
PATIENCE = 30.0  # with a Redis that gets no processor: these are promises of one that answers
POLL = 0.02
USD = 1_000_000_000
numbers = itertools.count()


def tenant(*, budget: Budget | None = None, models: dict[str, Limits] | None = None, **limits: int) -> Tenant:
    """A new one, whose accounts nobody has used."""
    return Tenant(f"t{next(numbers)}", None, Limits(**limits), budget, 1.0, "standard", model_limits=models or {})


def key(who: Tenant, name: str = "prod", **limits: int) -> Key:
    return Key(name, sha256(f"{who.name}:{name}".encode()).digest(), who, limits=Limits(**limits))


def changed(who: Tenant, **limits: int) -> Key:
    """The same tenant's key after a reload."""
    return key(Tenant(who.name, None, Limits(**limits), who.budget, 1.0, "standard"))


def dollars(usd: int, per: Any = "total", on_exceed: Any = "reject") -> Budget:
    return Budget(nanousd=usd * USD, per=per, on_exceed=on_exceed)


class Processes:
    """Some limiters that share their accounts; `ahead` sets all their clocks."""

    def __init__(self, url: str | None) -> None:
        self.ahead = 0.0
        self.alerts: list[int] = []
        self._runner = asyncio.Runner()
        self._turn = itertools.count()
        self._runner.run(self._start(url))

    async def _start(self, url: str | None) -> None:
        def alert(tenant: str, percent: int, spent: int) -> None:
            self.alerts.append(percent)

        self.limiters: list[MemoryLimiter] = [MemoryLimiter(alert, self.now)]
        if url is not None:
            self.limiters = [
                SharedLimiter(
                    RedisLimits.open(url, seconds=PATIENCE),
                    f"p{next(numbers)}",
                    alert,
                    PROCESSES,
                    clock=self.now,
                    patience=PATIENCE,
                )
                for _ in range(PROCESSES)
            ]
        self._running = [asyncio.create_task(limiter.run()) for limiter in self.limiters]

    def now(self) -> float:
        return time.time() + self.ahead

    def run(self, work: Any) -> Any:
        return self._runner.run(work)

    def rest(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    async def asking(self, who: Key, tokens: int, money: int, at: int, model: str) -> Lease:
        limiter = self.limiters[at % len(self.limiters)]
        lease = limiter.admit(who, model, tokens, money, self.now())
        return lease if lease is not None else await limiter.wait(who, model, tokens, money)

    def ask(self, who: Key, tokens: int = 1, money: int = 0, *, at: int | None = None, model: str = "") -> Lease:
        """Of the next process in turn."""
        return self.run(self.asking(who, tokens, money, next(self._turn) if at is None else at, model))

    def refusal(self, who: Key, tokens: int = 1, money: int = 0, *, model: str = "") -> GatewayError:
        """What all of them say."""
        said: list[GatewayError] = []
        for at in range(len(self.limiters)):
            with pytest.raises((RateLimited, QuotaExhausted)) as caught:
                self.ask(who, tokens, money, at=at, model=model)
            said.append(caught.value)
        return said[0]

    def refused_soon(self, who: Key) -> GatewayError:
        """What costs nothing is admitted until a process has heard that the budget is used up."""
        give_up_at = time.monotonic() + WITHIN
        while True:
            try:
                return self.refusal(who, money=0)
            except pytest.fail.Exception:
                assert time.monotonic() < give_up_at
                self.rest(POLL)

    def insist(self, who: Key, count: int, tokens: int = 1, money: int = 0, *, model: str = "") -> list[Lease]:
        """Asks all of them again and again until so many are admitted."""
        leases: list[Lease] = []
        give_up_at = time.monotonic() + WITHIN
        while len(leases) < count:
            try:
                leases.append(self.ask(who, tokens, money, model=model))
            except (RateLimited, QuotaExhausted):
                if time.monotonic() > give_up_at:
                    raise
                self.rest(POLL)
        return leases

    def settle(self, leases: list[Lease], tokens: int = 0, cost: int = 0) -> None:
        async def settle() -> None:
            for lease in leases:
                lease.settle(tokens, cost, self.now())

        self.run(settle())

    def stop(self, at: int) -> None:
        self._running[at].cancel()
        self.run(self.limiters[at].close())

    def close(self) -> None:
        for task in self._running:
            task.cancel()
        for limiter in self.limiters:
            self.run(limiter.close())
        self._runner.close()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str | None]]:
    single = RedisServer(tmp_path_factory.mktemp("redis") / "one")
    single.start()
    try:
        with cluster(tmp_path_factory.mktemp("cluster")) as nodes:
            yield {"memory": None, "redis": single.url, "cluster": f"redis+cluster://{nodes[0].address}"}
    finally:
        single.stop()


@pytest.fixture(params=["memory", "redis", "cluster"])
def processes(request: pytest.FixtureRequest, servers: dict[str, str | None]) -> Iterator[Processes]:
    processes = Processes(servers[request.param])
    yield processes
    processes.close()


def test_requests_per_minute(processes: Processes) -> None:
    who = key(tenant(rpm=6))
    processes.insist(who, 6)
    error = processes.refusal(who)
    assert "requests per min (RPM): Limit 6, Used 6, Requested 1" in error.message
    assert (error.status, error.code, error.retryable) == (429, "rate_limit_exceeded", True)
    assert error.retry_after is not None
    assert 0 < error.retry_after <= 10


def test_tokens_per_minute_are_held_until_it_is_known_what_was_used(processes: Processes) -> None:
    who = key(tenant(tpm=60))
    first, second, third = processes.insist(who, 3, tokens=20)
    error = processes.refusal(who, tokens=15)
    assert "tokens per min (TPM): Limit 60, Used 60, Requested 15" in error.message
    processes.settle([first], 20, 0)
    processes.refusal(who, tokens=15)
    processes.settle([second], 0, 0)
    processes.insist(who, 1, tokens=20)
    processes.refusal(who, tokens=15)
    processes.settle([third], 30, 0)  # more than was reserved is owed
    processes.refusal(who, tokens=15)


def test_a_request_larger_than_the_limit(processes: Processes) -> None:
    error = processes.refusal(key(tenant(tpm=100)), tokens=101)
    assert "Request too large" in error.message
    assert (error.retryable, error.retry_after) == (False, None)


def test_requests_at_the_same_time(processes: Processes) -> None:
    who = key(tenant(concurrency=4))
    running = processes.insist(who, 4)
    error = processes.refusal(who)
    assert "requests at the same time: Limit 4, Used 4" in error.message
    assert error.retry_after == 1.0
    processes.settle(running[:2])
    processes.insist(who, 2)
    processes.refusal(who)


def test_a_lease_is_settled_once(processes: Processes) -> None:
    who = key(tenant(concurrency=2, budget=dollars(10)))
    first, _ = processes.insist(who, 2, money=USD)
    for cost in (2, 1, 0):
        processes.settle([first], 0, cost * USD)
    processes.insist(who, 1, money=7 * USD)
    processes.refusal(who, money=1)


def test_a_budget_that_refuses(processes: Processes) -> None:
    who = key(tenant(budget=dollars(10)))
    running = processes.insist(who, 5, money=2 * USD)
    error = processes.refusal(who, money=2 * USD)
    assert "reserved for its requests in flight" in error.message
    assert (error.code, error.retryable) == ("rate_limit_exceeded", True)
    processes.settle(running, cost=USD)
    running = processes.insist(who, 2, money=2 * USD)
    processes.settle(running, cost=2 * USD)
    for _ in range(3):  # what is known is what was heard last: all of it, in the end
        processes.rest(0.3)
    error = processes.refusal(who, money=2 * USD)
    assert "of the $10.00 in all" in error.message
    assert "$9.00 is spent and this request may cost $2.00" in error.message
    assert (error.code, error.retryable) == ("insufficient_quota", False)
    processes.settle(processes.insist(who, 1, money=USD), cost=USD)
    assert processes.refused_soon(who).code == "insufficient_quota"


def test_a_budget_that_warns_is_told_of_once_by_all(processes: Processes) -> None:
    who = key(tenant(budget=dollars(10, on_exceed="warn")))
    for _ in range(12):
        processes.settle([processes.ask(who)], cost=USD)
        processes.rest(POLL)
    give_up_at = time.monotonic() + WITHIN
    while 100 not in processes.alerts and time.monotonic() < give_up_at:
        processes.rest(POLL)
    processes.rest(0.5)
    assert sorted(processes.alerts) == [50, 80, 100]


def test_each_part_of_a_budget_is_told_as_it_is_reached(processes: Processes) -> None:
    who = key(tenant(budget=dollars(10)))
    for cost, told in ((4, []), (1, [50]), (3, [50, 80]), (2, [50, 80, 100])):
        processes.settle(processes.insist(who, 1, money=cost * USD), cost=cost * USD)
        give_up_at = time.monotonic() + WITHIN
        while len(processes.alerts) < len(told) and time.monotonic() < give_up_at:
            processes.rest(POLL)
        assert processes.alerts == told
    processes.refused_soon(who)
    assert processes.alerts == [50, 80, 100]


def test_a_reservation_grows_as_far_as_the_budget_goes(processes: Processes) -> None:
    who = key(tenant(budget=dollars(10)))
    mine, other = processes.insist(who, 2, money=USD)

    async def extended(lease: Lease, money: int) -> bool:
        return lease.extend(money)

    def extend(lease: Lease, usd: int, within: float = WITHIN) -> bool:
        give_up_at = time.monotonic() + within
        while not processes.run(extended(lease, usd * USD)):
            if time.monotonic() > give_up_at:
                return False
            processes.rest(POLL)
        return True

    assert extend(mine, 6)
    assert not extend(other, 5, 0.5)
    assert extend(other, 4)
    processes.refusal(who, money=1)
    processes.settle([mine], 0, 2 * USD)
    assert extend(other, 8)
    processes.refusal(who, money=1)


def test_a_key_has_limits_of_its_own(processes: Processes) -> None:
    who = tenant(rpm=6)
    narrow, wide = key(who, "narrow", rpm=2), key(who, "wide")
    processes.insist(narrow, 2)
    assert f"key `narrow` of tenant `{who.name}`" in processes.refusal(narrow).message
    processes.insist(wide, 4)
    assert processes.refusal(wide).message.startswith(f"Rate limit reached for tenant `{who.name}` on")


def test_a_model_has_limits_of_its_own(processes: Processes) -> None:
    who = tenant(concurrency=5, models={"big": Limits(concurrency=2)})
    running = processes.insist(key(who), 2, model="big")
    assert "for the model `big`" in processes.refusal(key(who), model="big").message
    processes.insist(key(who), 3, model="small")
    processes.refusal(key(who), model="small")
    processes.settle(running)
    processes.insist(key(who), 2, model="big")


@pytest.mark.parametrize("full", ["tokens", "places", "money", "key"])
def test_a_refusal_takes_nothing(processes: Processes, full: str) -> None:
    """Another limit is full; of the requests per minute none is lost by it."""
    roomy = {"tokens": {"tpm": 100}, "places": {"concurrency": 1}}.get(full, {})
    who = tenant(rpm=5, budget=dollars(10) if full == "money" else None, **roomy)
    one = key(who, "one", **({"concurrency": 1} if full == "key" else {}))
    money = 10 * USD if full == "money" else 0
    running = processes.insist(one, 1, tokens=100, money=money)
    for _ in range(5):
        processes.refusal(one, tokens=50, money=1 if full == "money" else 0)
        processes.rest(0.03)
    processes.settle(running)
    for _ in range(4):
        processes.settle(processes.insist(one, 1, money=money))
    assert "RPM" in processes.refusal(one, money=1 if full == "money" else 0).message


def test_who_comes_back_when_told_is_admitted(processes: Processes) -> None:
    def use_up(who: Key, amount: int) -> None:
        while True:
            processes.settle([processes.ask(who, amount, at=0)], amount)

    requests, tokens = key(tenant(rpm=150)), key(tenant(tpm=6_000))
    processes.settle([processes.ask(requests, at=0) for _ in range(150)], 1)
    processes.settle([processes.ask(tokens, 3_000, at=0) for _ in range(2)], 3_000)
    for who, amount in ((requests, 1), (tokens, 40), (requests, 1), (tokens, 60)):
        with pytest.raises(RateLimited) as caught:
            use_up(who, amount)
        assert caught.value.retry_after is not None
        time.sleep(caught.value.retry_after)  # as a client would, with nothing told to the limiter meanwhile
        processes.settle([processes.ask(who, amount, at=0)], amount)


def lines(lease: Lease) -> list[bytes]:
    """Its headers, one by one."""
    return b"\r\n".join(lease.headers).split(b"\r\n")


def test_limits_are_told_as_they_are(processes: Processes) -> None:
    who = key(tenant(rpm=60, tpm=6_000))
    first = processes.ask(who, 1_000, at=0)
    assert lines(first)[:2] == [b"x-ratelimit-limit-requests: 60", b"x-ratelimit-remaining-requests: 59"]
    assert lines(first)[3:5] == [b"x-ratelimit-limit-tokens: 6000", b"x-ratelimit-remaining-tokens: 5000"]
    second = processes.ask(who, 500, at=1)
    assert lines(second)[1] == b"x-ratelimit-remaining-requests: 58"
    assert lines(second)[4] == b"x-ratelimit-remaining-tokens: 4500"
    processes.settle([first, second], 100)
    give_up_at = time.monotonic() + WITHIN
    while lines(processes.ask(who, 0, at=2))[4] < b"x-ratelimit-remaining-tokens: 5800":
        assert time.monotonic() < give_up_at
        processes.rest(0.1)


def test_those_that_leave_while_they_wait_take_nothing(processes: Processes) -> None:
    who = key(tenant(concurrency=3, budget=dollars(9)))

    async def leave() -> None:
        tasks = [asyncio.create_task(processes.asking(who, 1, USD, i, "")) for i in range(30)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        for one in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(one, BaseException):
                one.settle(0, 0, processes.now())

    for _ in range(5):
        processes.run(leave())
    processes.insist(who, 3, money=3 * USD)
    processes.refusal(who)


def test_a_budget_is_renewed(processes: Processes) -> None:
    who = key(tenant(budget=dollars(10, per="day")))
    now = datetime.fromtimestamp(processes.now(), UTC)
    midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
    processes.ahead = (midnight - now).total_seconds() - 600
    before, over = processes.insist(who, 2, money=5 * USD)
    processes.settle([before], 0, 5 * USD)
    processes.refusal(who, money=USD)
    processes.ahead += 700
    processes.settle(processes.insist(who, 2, money=4 * USD), cost=4 * USD)
    processes.settle([over], 0, 5 * USD)  # paid from yesterday's
    processes.insist(who, 1, money=2 * USD)
    processes.refusal(who, money=1)


def test_a_limit_is_raised_and_lowered(processes: Processes) -> None:
    who = tenant(concurrency=2, rpm=100)
    running = processes.insist(key(who), 2)
    processes.refusal(key(who))
    raised = changed(who, concurrency=4, rpm=100)
    running += processes.insist(raised, 2)
    processes.refusal(raised)
    lowered = changed(who, concurrency=1, rpm=100)
    processes.settle(running[:3])
    processes.refusal(lowered)
    processes.settle(running[3:])
    processes.insist(lowered, 1)
    processes.refusal(lowered)


def test_a_process_that_ends_gives_back_what_it_holds(processes: Processes) -> None:
    if len(processes.limiters) == 1:
        pytest.skip("nobody is left to give it to")
    who = key(tenant(rpm=40, concurrency=10))
    processes.settle([processes.ask(who, at=0) for _ in range(10)])
    processes.stop(0)
    processes.limiters = processes.limiters[1:]
    processes._running = processes._running[1:]
    assert len(processes.insist(who, 10)) == 10
    processes.refusal(who)


def test_tenants_do_not_share(processes: Processes) -> None:
    one, other = key(tenant(rpm=1)), key(tenant(rpm=1))
    processes.insist(one, 1)
    processes.insist(other, 1)
    processes.refusal(one)
