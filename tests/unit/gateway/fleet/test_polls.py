"""How a worker's load is polled, and what its silence says. Real sockets throughout."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from gateway.engines.load import NO_LOAD
from gateway.errors import WorkerTimeout
from gateway.fleet import gauge
from gateway.fleet.registry import Fleet
from gateway.table import Probe, Table, Timeout

if TYPE_CHECKING:
    from tests.unit.gateway.fleet.conftest import Kit

SECONDS = 20.0
LOAD = 0.02
PAGE = (
    b'vllm:num_requests_running{engine="0"} 2\nvllm:num_requests_waiting{engine="0"} 3\n'
    b'vllm:kv_cache_usage_perc{engine="0"} 0.5\n'
)


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


@asynccontextmanager
async def fleet_of(kit: Kit, table: Table, load: float = LOAD) -> AsyncIterator[Fleet]:
    pace = Probe(every=60.0, wait=5.0, load=load)
    async with kit.fleet(replace(table, settings=replace(table.settings, probe=pace))) as fleet:
        yield fleet


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not is_so():  # noqa: ASYNC110 - a view is plain fields that tell nobody
            await asyncio.sleep(0.005)


def with_page(kit: Kit, *answers: Any) -> dict[str, Any]:
    return kit.healthy("chat") | {"/metrics": list(answers) or [kit.answer(body=PAGE)]}


def test_the_view_has_what_the_engine_says_and_when_it_was_asked(kit: Kit) -> None:
    async def story() -> None:
        async with kit.engine(with_page(kit)) as engine:
            before = time.monotonic()
            async with fleet_of(kit, kit.table(kit.worker(url=engine.url))) as fleet:
                (backend,) = fleet.backends()
                assert backend.load is NO_LOAD
                assert backend.polled_at == -math.inf
                await until(lambda: backend.running == 2)
                assert (backend.waiting, backend.kv_usage) == (3, 0.5)
                assert before < backend.polled_at <= time.monotonic()

    run(story())


def test_the_time_is_that_of_the_question_not_of_the_answer(kit: Kit) -> None:
    async def story() -> None:
        async with kit.engine(with_page(kit)) as engine:
            engine.gates["/metrics"] = gate = asyncio.Event()
            async with fleet_of(kit, kit.table(kit.worker(url=engine.url)), load=0.3) as fleet:
                (backend,) = fleet.backends()
                await engine.arrived["/metrics"].wait()
                asked = time.monotonic()
                await asyncio.sleep(0.05)
                gate.set()
                await until(lambda: backend.running == 2)
                assert backend.polled_at <= asked

    run(story())


def test_polls_are_as_often_as_configured_and_one_at_a_time(kit: Kit) -> None:
    async def story() -> None:
        async with kit.engine(with_page(kit)) as engine:
            async with fleet_of(kit, kit.table(kit.worker(url=engine.url))):
                await until(lambda: engine.count("/metrics") >= 10)
                engine.gates["/metrics"] = gate = asyncio.Event()
                engine.arrived["/metrics"].clear()
                await engine.arrived["/metrics"].wait()
                asked = engine.count("/metrics")
                await asyncio.sleep(5 * LOAD)
                assert engine.count("/metrics") == asked
                gate.set()
                await until(lambda: engine.count("/metrics") > asked)
            assert engine.most_concurrent <= 2  # with a probe

    run(story())


def test_a_worker_that_is_down_is_not_polled(kit: Kit) -> None:
    async def story() -> None:
        async with kit.engine(with_page(kit) | {"/health": [kit.answer(503)]}) as engine:
            async with fleet_of(kit, kit.table(kit.worker(url=engine.url))):
                await engine.arrived["/health"].wait()
                await asyncio.sleep(5 * LOAD)
            assert engine.count("/metrics") == 0

    run(story())


def test_figures_are_forgotten_when_polls_fail(kit: Kit) -> None:
    async def story() -> None:
        page, broken = kit.answer(body=PAGE), kit.answer(500)
        async with kit.engine(with_page(kit, page, page, broken, broken)) as engine:
            async with fleet_of(kit, kit.table(kit.worker(url=engine.url))) as fleet:
                (backend,) = fleet.backends()
                await until(lambda: backend.running == 2)
                await until(lambda: backend.running == -1)
                assert backend.load is NO_LOAD
                assert backend.up
                assert not backend.silent

    run(story())


def test_an_engine_without_a_page_is_seldom_asked_for_it(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with kit.engine(with_page(kit, kit.answer(404))) as engine:
            async with fleet_of(kit, kit.table(kit.worker(url=engine.url))):
                await until(lambda: engine.count("/metrics") >= 2)
                await asyncio.sleep(10 * LOAD)
            assert engine.count("/metrics") == 2

    run(story())


def test_a_worker_that_owes_its_page_is_silent_until_it_is_heard(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with kit.engine(with_page(kit)) as engine:
            async with fleet_of(kit, kit.table(kit.worker(url=engine.url))) as fleet:
                (backend,) = fleet.backends()
                await until(lambda: backend.running == 2)
                engine.gates["/metrics"] = gate = asyncio.Event()
                began = time.monotonic()
                await until(lambda: backend.silent)
                assert time.monotonic() - began < 10.0
                assert backend.up
                assert backend.running == -1
                gate.set()
                await until(lambda: not backend.silent)

    with caplog.at_level(logging.INFO):
        run(story())
    said = [record.getMessage() for record in caplog.records]
    assert [said.count(event) for event in ("worker silent", "worker heard again")] == [1, 1]


def test_requests_leave_a_worker_that_stays_silent(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gauge, "FAILOVER_SECONDS", 0.2)

    class Asker:
        asked = 0

        def may_leave(self) -> bool:
            self.asked += 1
            return self.asked > 1  # there is no room at first

    async def story() -> None:
        async with kit.engine(with_page(kit)) as engine:
            async with fleet_of(kit, kit.table(kit.worker(url=engine.url))) as fleet:
                (backend,) = fleet.backends()
                await until(lambda: backend.running == 2)
                engine.gates["/metrics"] = engine.gates["/v1/embeddings"] = asyncio.Event()
                asker = Asker()
                asked = backend.pool.request("/v1/embeddings", b"application/json", b"{}", b"", Timeout(), asker)
                began = time.monotonic()
                with pytest.raises(WorkerTimeout, match="silent"):
                    await asked
                assert backend.silent
                assert asker.asked == 2
                assert 0.6 < time.monotonic() - began < 30.0

    run(story())


def test_who_is_heard_on_another_connection_is_busy_and_not_silent(kit: Kit) -> None:
    async def story() -> None:
        async with kit.engine(with_page(kit)) as engine:
            async with fleet_of(kit, kit.table(kit.worker(url=engine.url))) as fleet:
                (backend,) = fleet.backends()
                await until(lambda: backend.running == 2)
                engine.gates["/metrics"] = asyncio.Event()
                engine.arrived["/metrics"].clear()
                await engine.arrived["/metrics"].wait()
                enough = time.monotonic() + 0.7
                while time.monotonic() < enough:
                    await (await backend.pool.get("/health", Timeout())).read(1000)
                    assert not backend.silent
                    await asyncio.sleep(0.05)
                await until(lambda: backend.silent)

    run(story())


def test_a_worker_that_is_gone_is_down_by_the_next_poll(kit: Kit) -> None:
    async def story() -> None:
        async with kit.engine(with_page(kit)) as engine:
            async with fleet_of(kit, kit.table(kit.worker(url=engine.url))) as fleet:
                (backend,) = fleet.backends()
                await until(lambda: backend.running == 2)
                began = time.monotonic()
                await engine.close()
                await until(lambda: not backend.up)
                assert time.monotonic() - began < 10.0
                began = time.monotonic()
                await engine.listen()
                await until(lambda: backend.up)  # though probes are a minute apart
                assert time.monotonic() - began < 10.0

    run(story())


def test_the_pace_follows_the_configuration(kit: Kit) -> None:
    async def story() -> None:
        async with kit.engine(with_page(kit)) as engine:
            table = kit.table(kit.worker(url=engine.url))
            async with fleet_of(kit, table, load=0.05) as fleet:
                await until(lambda: engine.count("/metrics") >= 2)
                pace = Probe(every=60.0, wait=5.0, load=600.0)
                fleet.apply(replace(table, settings=replace(table.settings, probe=pace)))
                await asyncio.sleep(0.1)  # the pause that was under way
                asked = engine.count("/metrics")
                await asyncio.sleep(0.3)
                assert engine.count("/metrics") <= asked + 1

    run(story())


def test_a_worker_that_joins_others_is_cold_and_those_at_the_start_are_not(kit: Kit) -> None:
    async def story() -> None:
        async with kit.engine(with_page(kit)) as one, kit.engine(with_page(kit)) as other:
            first, second = kit.worker("first", url=one.url), kit.worker("second", url=other.url)
            async with fleet_of(kit, kit.table(first)) as fleet:
                (backend,) = fleet.backends()
                await until(lambda: backend.up)
                assert not backend.cold_since
                fleet.apply(kit.table(first, second))
                _, joined = fleet.backends()
                began = time.monotonic()
                await until(lambda: joined.up)
                assert time.monotonic() - began < 10.0
                assert joined.cold_since

    run(story())
