"""Workers over time: coming up, failing, being lost, changing with the configuration. Real sockets throughout."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from gateway.engines import DIALECTS
from gateway.fleet.backend import Backend
from gateway.fleet.probes import MAX_ANSWER_BYTES, endpoint
from gateway.fleet.readiness import unserved
from gateway.fleet.registry import Fleet
from gateway.ledger.pricing import Meter
from gateway.routing.prefix import PrefixIndex
from gateway.table import Adapter, Price, Worker
from gateway.upstream.pool import Pool
from loadtests.standin import Standin

if TYPE_CHECKING:
    from tests.unit.gateway.fleet.conftest import Kit

SECONDS = 20.0


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


def backend(fleet: Fleet, name: str = "w") -> Backend:
    return next(b for b in fleet.backends() if b.worker.name == name)


async def up(fleet: Fleet, name: str = "w") -> Backend:
    assert await fleet.wait_until(lambda: backend(fleet, name).up, SECONDS), backend(fleet, name).why_down
    return backend(fleet, name)


async def down(fleet: Fleet, why: str, name: str = "w") -> Backend:
    found = backend(fleet, name)
    assert await fleet.wait_until(lambda: not found.up and why in found.why_down, SECONDS), found.why_down
    return found


# Coming up


def test_a_vllm_worker_comes_up_with_its_names_and_one_inference(kit: Kit) -> None:
    async def story() -> None:
        async with (
            Standin(["chat@fp8"], adapters=["chat:support", "by-hand"]) as engine,
            kit.fleet(kit.table(kit.worker(url=engine.url))) as fleet,
        ):
            w = await up(fleet)
            assert (w.base_name, w.adapters) == (
                "chat@fp8",
                {"support": "chat:support", "by-hand": "by-hand"},
            )
            assert w.why_down == ""
            assert [(seen.method, seen.path) for seen in engine.requests_seen] == [("POST", "/v1/completions")]

    run(story())


def test_nothing_is_up_before_a_real_inference(kit: Kit) -> None:
    async def story() -> None:
        answers = kit.healthy()
        answers["/v1/completions"] = [kit.answer(500, b'{"error":{"message":"no kernel image","code":500}}')]
        async with kit.engine(answers) as engine, kit.fleet(kit.table(kit.worker(url=engine.url))) as fleet:
            w = await down(fleet, "a minimal inference failed (HTTP 500)")
            assert "no kernel image" in w.why_down
            engine.answers["/v1/completions"] = [kit.answer()]
            await up(fleet)
            sent = engine.seen[-1].body
            assert (sent["model"], sent["max_tokens"]) == ("chat", 1)

    run(story())


def test_an_embedding_worker_is_asked_for_an_embedding(kit: Kit) -> None:
    async def story() -> None:
        async with kit.engine() as engine:
            async with kit.fleet(kit.table(kit.worker(url=engine.url), task="embed")) as fleet:
                await up(fleet)
            assert engine.count("/v1/embeddings") == 1
            assert engine.count("/v1/completions") == 0

    run(story())


def test_a_model_without_a_completions_endpoint_is_up_by_its_list(kit: Kit) -> None:
    async def story() -> None:
        answers = kit.healthy("whisper")
        del answers["/v1/completions"]
        async with kit.engine(answers) as engine, kit.fleet(kit.table(kit.worker(url=engine.url))) as fleet:
            assert (await up(fleet)).base_name == "whisper"

    run(story())


def test_a_hosted_endpoint_is_never_charged_and_gets_its_key(kit: Kit) -> None:
    async def story() -> None:
        answers = {"/v1/models": [kit.models("big-1", "big-2", "chat")]}
        async with kit.engine(answers) as engine:
            hosted = kit.worker(url=f"{engine.url}/v1", engine="openai", api_key="sk-hosted")
            async with kit.fleet(kit.table(hosted)) as fleet:
                assert (await up(fleet)).base_name == "chat"
            assert {(seen.method, seen.path) for seen in engine.seen} == {("GET", "/v1/models")}
            assert all(seen.headers["authorization"] == "Bearer sk-hosted" for seen in engine.seen)

    run(story())


def test_a_hosted_endpoint_without_a_list_is_taken_at_the_operators_word(kit: Kit) -> None:
    async def story() -> None:
        async with kit.engine({}) as engine:
            hosted = kit.worker(url=engine.url, engine="openai", serves_as="deployment-7")
            async with kit.fleet(kit.table(hosted)) as fleet:
                assert (await up(fleet)).base_name == "deployment-7"

    run(story())


def test_an_engine_that_takes_paths_has_every_configured_adapter(kit: Kit) -> None:
    async def story() -> None:
        async with kit.engine() as engine:
            trtllm = kit.worker(url=engine.url, engine="trtllm", max_loras=4)
            async with kit.fleet(kit.table(trtllm)) as fleet:
                assert (await up(fleet)).adapters == {"support": "adapters/support-v3"}
            async with kit.fleet(kit.table(replace(trtllm, max_loras=0))) as fleet:
                assert (await up(fleet)).adapters == {}

    run(story())


# Not coming up


def test_a_worker_that_starts_late_is_found(kit: Kit) -> None:
    async def story() -> None:
        async with kit.engine() as engine:
            await engine.close()
            async with kit.fleet(kit.table(kit.worker(url=engine.url))) as fleet:
                w = await down(fleet, "it cannot be reached (Connection refused)")
                assert str(engine.port) not in w.why_down
                await engine.listen()
                await up(fleet)

    run(story())


@pytest.mark.parametrize(
    ("path", "status", "body", "why"),
    [
        ("/health", 503, b"", "its health check answered HTTP 503"),
        ("/v1/models", 401, b'{"error":"Unauthorized"}', "does not accept the gateway's key (HTTP 401)"),
        ("/v1/models", 500, b"", "its model list answered HTTP 500"),
        ("/v1/models", 200, b"<html>", "its model list is not JSON"),
        ("/v1/models", 200, b"[]", "its /v1/models is no model list"),
        ("/v1/models", 200, b'{"data":[{"id":"a"},{"id":"b"}]}', "set `serves_as` to one of a, b"),
        ("/v1/models", 200, b"x" * (MAX_ANSWER_BYTES + 1), "more than"),
        (
            "/v1/completions",
            404,
            b'{"error":{"message":"The model `chat` does not exist."}}',
            "does not have the model",
        ),
    ],
)
def test_a_worker_stays_down_and_says_why(kit: Kit, path: str, status: int, body: bytes, why: str) -> None:
    async def story() -> None:
        answers = kit.healthy()
        answers[path] = [kit.answer(status, body)]
        async with kit.engine(answers) as engine, kit.fleet(kit.table(kit.worker(url=engine.url))) as fleet:
            await down(fleet, why)

    run(story())


def test_a_worker_that_says_nothing_is_waited_for_only_so_long(kit: Kit) -> None:
    async def story() -> None:
        async with kit.engine() as engine:
            engine.gates["/health"] = asyncio.Event()
            async with kit.fleet(kit.table(kit.worker(url=engine.url), wait=0.05)) as fleet:
                await down(fleet, "it did not answer /health within 0.05 s")

    run(story())


def test_a_worker_that_hangs_up_is_told_apart(kit: Kit) -> None:
    async def story() -> None:
        answers = kit.healthy()
        answers["/health"] = [kit.answer(0)]
        async with kit.engine(answers) as engine, kit.fleet(kit.table(kit.worker(url=engine.url))) as fleet:
            await down(fleet, "it broke off its answer to /health")

    run(story())


def test_a_worker_whose_tls_is_refused_is_told_apart(kit: Kit) -> None:
    async def story() -> None:
        async with kit.engine() as engine:
            plain = kit.worker(url=engine.url.replace("http:", "https:"))
            async with kit.fleet(kit.table(plain)) as fleet:
                await down(fleet, "its TLS is refused")

    run(story())


# Staying up, and not


def test_an_engine_known_to_live_by_its_list_is_watched_by_it(kit: Kit) -> None:
    async def story() -> None:
        async with kit.engine() as engine:
            async with kit.fleet(kit.table(kit.worker(url=engine.url, engine="sglang"))) as fleet:
                w = await up(fleet)
                engine.answers["/v1/models"] = [kit.models("chat", "chat:support")]
                assert await fleet.wait_until(lambda: w.adapters == {"support": "chat:support"}, SECONDS)
                engine.answers["/v1/models"] = [kit.answer(500)]
                await down(fleet, "its model list answered HTTP 500")
            assert engine.count("/health") == 0

    run(story())


def test_a_probe_that_fails_in_a_new_way_ends_no_watch(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    class Odd:
        health_path = "/health"

        def select(self, *_: object) -> None:
            raise RuntimeError("a case nobody thought of")

    async def story() -> None:
        fleet: Any = kit.unwatched()
        async with kit.engine() as engine:
            fleet.apply(kit.table(kit.worker(url=engine.url)))
            backend(fleet).dialect = Odd()  # type: ignore[assignment]
            await fleet.start()
            await down(fleet, "its probe failed (RuntimeError)")
            engine.arrived["/v1/models"].clear()
            await engine.arrived["/v1/models"].wait()
            await fleet.stop()

    run(story())
    assert "probe failed in a new way" in caplog.messages


def test_a_key_that_fits_into_no_header_says_so(kit: Kit) -> None:
    async def story() -> None:
        async with kit.engine() as engine:
            broken = kit.worker(url=engine.url, api_key="two\nlines")
            async with kit.fleet(kit.table(broken)) as fleet:
                w = await down(fleet, "no request can be made of its settings")
                assert "two" not in w.why_down

    run(story())


def test_one_failed_probe_is_forgiven_and_two_in_a_row_are_not(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tollgate.fleet")
    ok, sick = kit.answer(), kit.answer(503)

    async def story() -> None:
        answers = kit.healthy()
        answers["/health"] = [ok, sick, ok, ok, sick, sick, ok]
        async with kit.engine(answers) as engine, kit.fleet(kit.table(kit.worker(url=engine.url))) as fleet:
            await up(fleet)
            await down(fleet, "its health check answered HTTP 503")
            await up(fleet)

    run(story())
    assert [record.getMessage() for record in caplog.records][:5] == [
        "worker up",
        "worker probe failed",
        "worker probe failed",
        "worker down",
        "worker up",
    ]


def test_a_lost_request_takes_the_worker_down_now_and_wakes_its_probe(kit: Kit) -> None:
    async def story() -> None:
        async with kit.engine() as engine, kit.fleet(kit.table(kit.worker(url=engine.url), every=3600.0)) as fleet:
            w = await up(fleet)
            fleet.report_failure(w, "The worker could not be reached (ConnectionRefusedError).")
            assert (w.up, w.why_down) == (False, "The worker could not be reached (ConnectionRefusedError).")
            await up(fleet)
            assert engine.count("/v1/completions") == 2, "coming back takes a whole bring-up"

    run(story())


def test_a_probe_that_began_before_the_loss_proves_nothing(kit: Kit) -> None:
    async def story() -> None:
        async with kit.engine() as engine, kit.fleet(kit.table(kit.worker(url=engine.url))) as fleet:
            w = await up(fleet)
            engine.gates["/health"] = gate = asyncio.Event()
            engine.arrived["/health"].clear()
            await engine.arrived["/health"].wait()
            inferences = engine.count("/v1/completions")
            fleet.report_failure(w, "gone")
            del engine.gates["/health"]
            gate.set()
            await up(fleet)
            assert engine.count("/v1/completions") == inferences + 1

    run(story())


def test_however_often_a_worker_is_lost_it_has_one_probe_at_a_time(kit: Kit) -> None:
    async def story() -> None:
        async with kit.engine() as engine, kit.fleet(kit.table(kit.worker(url=engine.url))) as fleet:
            for _ in range(3):
                w = await up(fleet)
                for _ in range(100):
                    fleet.report_failure(w, "gone")
            await up(fleet)
            assert engine.most_concurrent == 1
            assert engine.count("/v1/completions") == 4

    run(story())


def test_an_adapter_loaded_by_hand_appears_and_one_unloaded_goes(kit: Kit) -> None:
    async def story() -> None:
        async with Standin(["chat"]) as engine, kit.fleet(kit.table(kit.worker(url=engine.url), every=0.02)) as fleet:
            w = await up(fleet)
            assert w.adapters == {}
            engine.models.load("support", "adapters/support", in_place=False)
            assert await fleet.wait_until(lambda: w.adapters == {"support": "support"}, SECONDS)
            engine.models.unload("support")
            assert await fleet.wait_until(lambda: w.adapters == {}, SECONDS)

    run(story())


def test_one_worker_in_trouble_does_not_hold_up_another(kit: Kit) -> None:
    async def story() -> None:
        async with kit.engine() as stuck, kit.engine() as well:
            stuck.gates["/health"] = asyncio.Event()
            workers = kit.worker("stuck", stuck.url), kit.worker("well", well.url)
            async with kit.fleet(kit.table(*workers)) as fleet:
                await up(fleet, "well")
                assert not backend(fleet, "stuck").up

    run(story())


def test_stop_leaves_nothing_running(kit: Kit) -> None:
    async def story() -> None:
        async with kit.engine() as engine:
            async with kit.fleet(kit.table(kit.worker(url=engine.url))) as fleet:
                pool: Any = (await up(fleet)).pool
            assert pool.was_closed.is_set()
            assert [task.get_name() for task in asyncio.all_tasks() if "watch" in task.get_name()] == []

    run(story())


# Changing with the configuration


def test_views_are_by_model_and_version(kit: Kit) -> None:
    fleet = kit.unwatched()

    async def story() -> None:
        fleet.apply(kit.table(kit.worker("a"), kit.worker("b", version="int4"), kit.worker("c", model="big")))
        names = {
            key: [view.worker.name for view in fleet.views(*key)]
            for key in [("chat", None), ("chat", "fp8"), ("chat", "int4"), ("big", None), ("big", "int4"), ("x", None)]
        }
        assert names == {
            ("chat", None): ["a", "b"],
            ("chat", "fp8"): ["a"],
            ("chat", "int4"): ["b"],
            ("big", None): ["c"],
            ("big", "int4"): [],
            ("x", None): [],
        }
        assert fleet.views("chat", None) is fleet.views("chat", None), "nothing is computed on the hot path"

    run(story())


def test_an_unchanged_worker_keeps_its_state_and_a_new_price_takes_effect(kit: Kit) -> None:
    async def story() -> None:
        async with kit.engine() as engine:
            w = kit.worker(url=engine.url)
            async with kit.fleet(kit.table(w)) as fleet:
                before = await up(fleet)
                before.inflight, before.seconds_per_output_token = 3, 0.01
                priced = replace(w, price=Price(1, 2, 3))
                fleet.apply(kit.table(priced, kit.worker("new")))
                after = backend(fleet)
                assert after is before
                assert (after.up, after.inflight, after.worker) == (True, 3, priced)
                assert engine.count("/v1/completions") == 1

    run(story())


@pytest.mark.parametrize("change", [{"api_key": "k"}, {"version": "int4"}, {"serves_as": "chat"}, {"model": "big"}])
def test_a_worker_that_is_another_starts_anew(kit: Kit, change: dict[str, str]) -> None:
    async def story() -> None:
        async with kit.engine() as engine:
            w = kit.worker(url=engine.url)
            async with kit.fleet(kit.table(w)) as fleet:
                before = await up(fleet)
                fleet.apply(kit.table(replace(w, **change)))
                assert backend(fleet) is not before
                assert not backend(fleet).up
                await up(fleet)
                fleet.report_failure(before, "late news of the old one")
                assert backend(fleet).up

    run(story())


def test_a_worker_that_was_away_or_is_another_has_nothing_cached(kit: Kit) -> None:
    index = PrefixIndex()

    def made(worker: Worker) -> Backend:
        pool = Pool(worker.url)
        dialect = DIALECTS[worker.engine]
        return Backend(worker=worker, pool=pool, dialect=dialect, meter=Meter(), prefixes=index.enrol())

    fleet = Fleet(made)
    w = kit.worker(url="http://127.0.0.1:1")
    fleet.apply(kit.table(w))
    cache = backend(fleet).prefixes
    assert cache is not None
    cache.insert([1, 2], 0)
    backend(fleet).forgive(1.0, cold=False)
    assert (len(index), backend(fleet).prefixes) == (0, cache)
    cache.insert([1, 2], 0)

    async def story() -> None:
        fleet.apply(kit.table(replace(w, version="int4")))
        await fleet.stop()

    run(story())
    assert len(index) == 0
    cache.insert([1, 2], 0)
    assert len(index) == 0


def test_an_adapter_added_to_the_configuration_is_found_without_waiting(kit: Kit) -> None:
    async def story() -> None:
        async with kit.engine() as engine:
            trtllm = kit.worker(url=engine.url, engine="trtllm", max_loras=4)
            config = kit.table(trtllm, every=3600.0)
            async with kit.fleet(config) as fleet:
                w = await up(fleet)
                more = {**config.models["chat"].adapters, "legal": Adapter("legal", "adapters/legal", None)}
                models = {**config.models, "chat": replace(config.models["chat"], adapters=more)}
                fleet.apply(replace(config, models=models))
                assert await fleet.wait_until(lambda: "legal" in w.adapters, SECONDS)
                assert w.up

    run(story())


def test_a_removed_worker_finishes_its_requests_first(kit: Kit) -> None:
    async def story() -> None:
        async with kit.engine() as engine, kit.fleet(kit.table(kit.worker(url=engine.url))) as fleet:
            w = await up(fleet)
            pool: Any = w.pool
            w.inflight = 1
            fleet.apply(kit.table())
            assert list(fleet.backends()) == []
            assert fleet.views("chat", None) == ()
            retiring = next(task for task in asyncio.all_tasks() if task.get_name() == "retire w")
            await asyncio.wait([retiring], timeout=0.25)
            assert not pool.was_closed.is_set()
            w.inflight = 0
            await asyncio.wait_for(pool.was_closed.wait(), SECONDS)

    run(story())


def test_a_worker_that_cannot_be_made_leaves_everything_as_it_was(kit: Kit) -> None:
    async def story() -> None:
        fleet = kit.unwatched()
        fleet.apply(kit.table(kit.worker("a")))
        before = list(fleet.backends())
        with pytest.raises(ValueError, match="not an http"):
            fleet.apply(kit.table(kit.worker("b"), kit.worker("c", url="ftp://x")))
        assert list(fleet.backends()) == before

    run(story())


def test_draining_survives_a_change_of_the_configuration(kit: Kit) -> None:
    async def story() -> None:
        fleet = kit.unwatched()
        fleet.apply(kit.table(kit.worker("a"), kit.worker("b")))
        assert fleet.drain("a").draining
        fleet.apply(kit.table(kit.worker("a", api_key="rotated"), kit.worker("b")))
        assert [b.draining for b in fleet.backends()] == [True, False]
        undrained = fleet.undrain("a")
        assert undrained is not None
        assert not undrained.draining
        with pytest.raises(KeyError):
            fleet.drain("nobody")

    run(story())


def test_what_is_unserved_says_why(kit: Kit) -> None:
    async def story() -> None:
        fleet = kit.unwatched()
        config = kit.table(kit.worker("a"), kit.worker("b", version="int4"), kit.worker("c", model="big"))
        fleet.apply(config)
        assert unserved(config, fleet.views) == {
            "big": "c: not probed yet",
            "chat": "a: not probed yet; b: not probed yet",
        }
        backend(fleet, "b").up = backend(fleet, "c").up = True
        assert unserved(config, fleet.views) == {}
        fleet.drain("c")
        assert unserved(config, fleet.views) == {"big": "c: draining"}

    run(story())


@pytest.mark.parametrize(
    ("url", "path", "expected"),
    [
        ("http://w:8000", "/health", "http://w:8000/health"),
        ("http://w:8000/", "/v1/models", "http://w:8000/v1/models"),
        ("https://api.example.com/v1", "/v1/models", "https://api.example.com/v1/models"),
        ("https://proxy/engine", "/v1/models", "https://proxy/engine/v1/models"),
        ("dns+http://w.svc:8000", "/health", "http://w.svc:8000/health"),
    ],
)
def test_a_base_url_that_ends_in_v1_takes_that_prefixs_place(url: str, path: str, expected: str) -> None:
    assert endpoint(url, path) == expected


# Outliers


def failing(fleet: Fleet, *names: str) -> None:
    for b in fleet.backends():
        b.up = True
        b.standing.attempts, b.standing.failures = 100.0, 50.0 if b.worker.name in names else 0.0


def ejected(fleet: Fleet, now: float) -> set[str]:
    return {b.worker.name for b in fleet.backends() if b.standing.ejected_until > now}


def test_who_fails_more_than_those_that_serve_the_same_is_ejected(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    fleet = kit.unwatched()
    fleet.apply(kit.table(kit.worker("a"), kit.worker("b"), kit.worker("c", version="int4")))
    failing(fleet, "a", "c")
    with caplog.at_level(logging.WARNING, "tollgate.fleet"):
        fleet.review(50.0)
    assert ejected(fleet, 50.0) == {"a"}  # the only one of its version stays
    (record,) = caplog.records
    assert record.fields == {"worker": "a", "for_seconds": 10.0}  # type: ignore[attr-defined]
    assert ejected(fleet, 60.0) == set()


@pytest.mark.parametrize("other", [{"up": False}, {"draining": True}])
def test_a_sibling_that_takes_no_requests_counts_for_nothing(kit: Kit, other: dict[str, bool]) -> None:
    fleet = kit.unwatched()
    fleet.apply(kit.table(kit.worker("a"), kit.worker("b")))
    failing(fleet, "a")
    for name, value in other.items():
        setattr(backend(fleet, "b"), name, value)
    fleet.review(50.0)
    assert ejected(fleet, 50.0) == set()


def test_who_was_away_comes_back_with_a_clean_slate(kit: Kit) -> None:
    async def story() -> None:
        async with kit.engine() as engine, kit.fleet(kit.table(kit.worker(url=engine.url))) as fleet:
            w = await up(fleet)
            for _ in range(9):
                w.failed("chat", 0.0, trial=None)
            assert w.breakers["chat"].state == "open"
            fleet.report_failure(w, "it is gone")
            await up(fleet)
            assert (w.breakers, w.standing.failures) == ({}, 0.0)

    run(story())
