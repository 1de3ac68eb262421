"""What the fleet tells the ledger of its workers, and of what its probes had them do. Real sockets throughout."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from gateway.engines.load import NO_LOAD
from gateway.fleet.registry import Fleet
from gateway.ledger.audits import LAST
from gateway.ledger.record import Attempt, Reading
from gateway.table import Gpu, Metering, Price, Table
from loadtests.standin import Standin

if TYPE_CHECKING:
    from tests.unit.gateway.fleet.conftest import Kit

SECONDS = 20.0
PAGE = (
    b'vllm:num_requests_running{engine="0"} 2\nvllm:num_requests_waiting{engine="0"} 3\n'
    b'vllm:kv_cache_usage_perc{engine="0"} 0.5\nvllm:prompt_tokens_total{engine="0"} 70\n'
    b'vllm:generation_tokens_total{engine="0"} 20\nprocess_start_time_seconds 1000\n'
)


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


@dataclass
class Kept:
    """The ledger, as the fleet knows it."""

    source: str = "g1"
    intents: list[Attempt] = field(default_factory=list[Attempt])
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    readings: list[Reading] = field(default_factory=list[Reading])
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def intend(self, attempt: Attempt) -> None:
        self.intents.append(attempt)

    def record(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)
        self.news.set()

    def read(self, reading: Reading) -> None:
        self.readings.append(reading)
        self.news.set()

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not is_so():
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def fleet_of(kit: Kit, kept: Kept, table: Table, every: float = 0.05) -> AsyncIterator[Fleet]:
    fleet = Fleet(kit.make_backend, kept)
    fleet.apply(replace(table, settings=replace(table.settings, metering=Metering(readings=every))))
    await fleet.start()
    try:
        yield fleet
    finally:
        await fleet.stop()


def test_a_worker_is_read_again_and_again(kit: Kit) -> None:
    async def story() -> None:
        kept = Kept()
        gpu = Gpu("h100", 3_000_000_000, None)
        async with Standin(["chat@fp8"]) as engine:
            worker = kit.worker(url=engine.url, gpu=gpu, gpus=2)
            before = time.time()
            async with fleet_of(kit, kept, kit.table(worker)) as fleet:
                await kept.until(lambda: kept.attempts != [] and kept.readings[-1].prompt_tokens > 0)
                await kept.until(lambda: kept.readings[-1].up)
                last = kept.readings[-1]
                assert before <= last.at <= time.time()
                assert (last.source, last.worker, last.model, last.version) == ("g1", "w", "chat", "fp8")
                assert (last.hourly, last.in_flight, last.running, last.waiting) == (6_000_000_000, 0, 0, 0)
                (probe,) = kept.attempts
                assert (last.prompt_tokens, last.output_tokens) == (probe.prompt_tokens, probe.output_tokens)
                assert last.busy_ns == probe.gpu_ns > 0
                (backend,) = fleet.backends()
                assert backend.load.prompt_tokens == last.prompt_tokens

    run(story())


def test_at_the_end_it_is_said_that_nothing_more_will_come(kit: Kit) -> None:
    async def story() -> None:
        kept = Kept()
        async with Standin(["chat@fp8"]) as engine:
            async with fleet_of(kit, kept, kit.table(kit.worker(url=engine.url)), every=3600.0):
                await kept.until(lambda: kept.attempts != [] and kept.readings != [])
            first, last = kept.readings
            (probe,) = kept.attempts
            assert first.busy_ns >= 0
            assert (last.busy_ns, last.in_flight, last.worker) == (LAST, 0, "w")
            assert last.prompt_tokens == probe.prompt_tokens > 0, "read just now"

    run(story())


def test_it_is_said_of_a_worker_that_does_not_answer_too(kit: Kit) -> None:
    async def story() -> None:
        kept = Kept()
        async with Standin(["chat@fp8"]) as engine:
            url = engine.url
        async with fleet_of(kit, kept, kit.table(kit.worker(url=url)), every=3600.0):
            await kept.until(lambda: kept.readings != [])
        assert [(one.busy_ns, one.prompt_tokens) for one in kept.readings] == [(0, -1), (LAST, -1)]

    run(story())


def test_it_is_not_said_while_an_attempt_is_under_way(kit: Kit) -> None:
    async def story() -> None:
        kept = Kept()
        async with Standin(["chat@fp8"]) as engine:
            async with fleet_of(kit, kept, kit.table(kit.worker(url=engine.url)), every=3600.0) as fleet:
                await kept.until(lambda: kept.attempts != [] and kept.readings != [])
                (backend,) = fleet.backends()
                backend.meter.enter(time.monotonic())
        assert LAST not in [one.busy_ns for one in kept.readings]

    run(story())


def test_a_probe_is_an_attempt_of_nobodys(kit: Kit) -> None:
    async def story() -> None:
        kept = Kept()
        async with Standin(["chat@fp8"]) as engine:
            worker = kit.worker(url=engine.url, gpu=Gpu("h100", 3_600_000_000_000, None))
            async with fleet_of(kit, kept, kit.table(worker)):
                await kept.until(lambda: kept.attempts != [])
        (row,), (intent,) = kept.attempts, kept.intents
        assert (row.line.tenant, row.line.worker, row.line.endpoint) == ("__probe__", "w", "completions")
        assert (row.line.cost_basis, row.cost_nanousd) == ("gpu_time", row.gpu_ns)  # at a dollar a second
        assert (row.outcome, row.estimated, row.final, row.status) == ("ok", False, True, 200)
        assert row.prompt_tokens > 0
        assert row.output_tokens == 1
        assert (intent.request_id, intent.outcome, intent.estimated) == (row.request_id, "crashed", True)

    run(story())


def test_a_probe_costs_tokens_where_they_have_a_price(kit: Kit) -> None:
    async def story() -> None:
        kept = Kept()
        async with Standin(["chat@fp8"]) as engine:
            worker = kit.worker(url=engine.url, price=Price(0, 0, 5_000_000))
            async with fleet_of(kit, kept, kit.table(worker)):
                await kept.until(lambda: kept.attempts != [] and kept.readings != [])
        assert (kept.attempts[0].line.cost_basis, kept.attempts[0].cost_nanousd) == ("token_price", 5)
        assert kept.readings[0].hourly == 0

    run(story())


def test_a_probe_that_got_no_answer_may_have_cost_something_and_one_that_was_refused_has_not(kit: Kit) -> None:
    async def story() -> None:
        answers = kit.healthy("chat") | {
            "/v1/completions": [
                kit.answer(0),
                kit.answer(500, b"{}"),
                kit.answer(body=b'{"usage":{"prompt_tokens":2}}'),
            ]
        }
        kept = Kept()
        async with kit.engine(answers) as engine, fleet_of(kit, kept, kit.table(kit.worker(url=engine.url))):
            await kept.until(lambda: len(kept.attempts) == 3)
        assert [(row.outcome, row.estimated, row.prompt_tokens) for row in kept.attempts] == [
            ("failed", True, 0),
            ("failed", False, 0),
            ("ok", False, 2),
        ]
        assert len(kept.intents) == 3

    run(story())


def test_what_a_worker_does_not_tell_is_unknown_and_said_once(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        kept = Kept()
        answers = kit.healthy("chat") | {"/metrics": [kit.answer(body=PAGE), kit.answer(503), kit.answer(503)]}
        async with (
            kit.engine(answers) as engine,
            fleet_of(kit, kept, kit.table(kit.worker(url=engine.url)), every=0.1) as fleet,
        ):
            (backend,) = fleet.backends()
            await kept.until(lambda: len(kept.readings) >= 3 and backend.up)
            seen = len(kept.readings)
            await kept.until(lambda: len(kept.readings) >= seen + 3)
            assert kept.readings[0][-6:] == (2, 3, 0.5, 70, 20, 1_000.0)
            assert kept.readings[-1][-6:] == NO_LOAD[:-1]
            assert backend.load == NO_LOAD

    with caplog.at_level(logging.WARNING):
        run(story())
    assert [record.message for record in caplog.records].count("worker not read") == 1


def test_readings_do_not_pile_up_on_a_worker_that_is_slow(kit: Kit) -> None:
    async def story() -> None:
        kept = Kept()
        async with kit.engine(kit.healthy("chat") | {"/metrics": [kit.answer(body=PAGE)]}) as engine:
            engine.gates["/metrics"] = gate = asyncio.Event()
            async with fleet_of(kit, kept, kit.table(kit.worker(url=engine.url)), every=0.01):
                await kept.until(lambda: len(kept.readings) == 2)  # each given up after a second
                assert [reading.prompt_tokens for reading in kept.readings] == [-1, -1]
                asked = sum(seen.path == "/metrics" for seen in engine.seen)
                assert asked <= 3
                gate.set()
                await kept.until(lambda: kept.readings[-1].prompt_tokens == 70)

    run(story())


def test_a_hosted_endpoint_is_not_read_and_not_asked(kit: Kit) -> None:
    async def story() -> None:
        kept = Kept()
        async with kit.engine(kit.healthy("chat")) as engine:
            worker = kit.worker(url=engine.url, engine="openai", price=Price(1, 1, 1))
            async with fleet_of(kit, kept, kit.table(worker)) as fleet:
                (backend,) = fleet.backends()
                assert await fleet.wait_until(lambda: backend.up, SECONDS)
            assert {seen.path for seen in engine.seen} == {"/v1/models"}
        assert (kept.readings, kept.attempts, kept.intents) == ([], [], [])

    run(story())


def test_a_worker_that_is_gone_is_read_no_more(kit: Kit) -> None:
    async def story() -> None:
        kept = Kept()
        async with kit.engine(kit.healthy("chat") | {"/metrics": [kit.answer(body=PAGE)]}) as engine:
            one, two = kit.worker("one", url=engine.url), kit.worker("two", url=engine.url)
            table = kit.table(one, two)
            async with fleet_of(kit, kept, table) as fleet:
                await kept.until(lambda: {reading.worker for reading in kept.readings} == {"one", "two"})
                fleet.apply(kit.table(two))
                seen = len(kept.readings)
                await kept.until(lambda: len(kept.readings) > seen + 4)
                assert {reading.worker for reading in kept.readings[seen + 1 :]} == {"two"}

    run(story())
