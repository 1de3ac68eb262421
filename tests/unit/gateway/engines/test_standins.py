"""Every dialect against a stand-in that speaks as its engine does: health, load, adapters, overload and errors, on real
sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from gateway.engines import DIALECTS
from gateway.engines.dialect import Order, PlacesAdapters, TakesAdapterPaths, TellsLoad
from gateway.errors import GatewayError, Overloaded, UpstreamError, WorkerRefused
from gateway.fleet.probes import Clients, Prober
from gateway.routing.types import WorkerView
from gateway.table import Adapter, Engine, Model, Timeout, Version, Worker
from gateway.upstream.pool import Pool
from loadtests.standin import Standin
from loadtests.standin.engines import SPEECHES

ENGINES: list[Engine] = ["vllm", "trtllm", "triton", "sglang", "tgi", "openai"]
PATIENT = Timeout(5.0, 5.0, 5.0, 5.0)
JSON = b"application/json"
PATH = "adapters/support-v3"
MESSAGES = [{"role": "user", "content": "hi"}]


def model() -> Model:
    adapters = {"support": Adapter("support", PATH, None)}
    return Model("chat", 8192, "generate", {"fp8": Version("fp8", None, "none", None)}, (), adapters)


def run(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(story)


class Site:
    """One engine, and the gateway's means to talk to it."""

    def __init__(self, engine: Engine, standin: Standin, clients: Clients) -> None:
        self.standin = standin
        self.dialect = DIALECTS[engine]
        worker = Worker(
            name="w",
            url=standin.url,
            engine=engine,
            model="chat",
            version="fp8",
            gpu=None,
            gpus=1,
            max_loras=4,
            price=None,
            api_key=None,
            launch=None,
            serves_as=None,
        )
        self.prober = Prober(clients.trusting(None), WorkerView(worker=worker), self.dialect)
        self.pool = Pool(standin.url)

    async def chat(self, name: str, adapter: str | None = None, **wishes: Any) -> tuple[int, bytes]:
        body: dict[str, Any] = {"messages": MESSAGES, "max_tokens": 4, **wishes}
        self.dialect.select(body, name, adapter)
        return await self.post("/v1/chat/completions", body)

    async def post(self, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        response = await self.pool.request(path, JSON, orjson.dumps(body), b"", PATIENT)
        return response.status, await response.read(1_000_000)

    async def order(self, order: Order) -> tuple[int, bytes]:
        return await self.post(order.path, order.body)


@asynccontextmanager
async def site(engine: Engine, **options: Any) -> AsyncGenerator[Site]:
    clients = Clients()
    async with Standin(["chat"], engine=engine, **options) as standin:
        here = Site(engine, standin, clients)
        yield here
        await here.pool.close()
    await clients.close()


def every_engine() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("engine", ENGINES)


def test_every_dialect_has_a_stand_in() -> None:
    assert set(DIALECTS) == set(SPEECHES) == set(ENGINES)


@every_engine()
def test_it_is_found_healthy_and_answers(engine: Engine) -> None:
    async def story() -> None:
        async with site(engine) as here:
            before = here.standin.metrics.generation_tokens
            if not here.prober.lists_as_health:
                await here.prober.health(5.0)
            listed = await here.prober.listing(model(), 5.0)
            assert here.standin.metrics.generation_tokens == before, "its health costs no inference"
            assert listed.base_name == "chat"
            usage = await here.prober.inference(model(), listed.base_name, 5.0)
            assert usage is not None
            assert usage.output_tokens == 1
            status, body = await here.chat(listed.base_name)
            assert (status, orjson.loads(body)["choices"][0]["message"]["role"]) == (200, "assistant")

    run(story())


@every_engine()
def test_it_tells_its_load_and_takes_nothing_away(engine: Engine) -> None:
    async def story() -> None:
        async with site(engine, max_running=1) as here:
            here.standin.metrics.kv_usage = 0.5
            asked = [
                asyncio.create_task(here.chat("chat", standin={"first_token_delay": 60, "tokens": 4})) for _ in range(3)
            ]
            await here.standin.wait_for(active=3)
            if engine == "openai":
                assert not isinstance(here.dialect, TellsLoad)
            else:
                load = await here.prober.load(5.0)
                assert (load.running, load.waiting) == (1, 2)
                assert load.kv_usage == (-1 if engine == "tgi" else 0.5)
                assert load == await here.prober.load(5.0)
                assert (load.prompt_tokens > 0) == (engine in ("vllm", "sglang"))
                assert (load.cache_tokens > 0) == (engine in ("vllm", "sglang"))
            assert here.standin.engine.undrained, "figures for one reader only are left to that reader"
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    run(story())


@every_engine()
def test_a_full_engine_is_overload(engine: Engine) -> None:
    async def story() -> None:
        async with site(engine) as here:
            status, body = await here.chat("chat", standin={"fault": "refuse", "status": 503})
            assert isinstance(here.dialect.error(status, body), Overloaded)

    run(story())


@every_engine()
def test_overload_within_a_stream_is_overload_or_a_broken_stream(engine: Engine) -> None:
    async def story() -> None:
        async with site(engine) as here:
            wish = {"fault": "error_frame", "after": 1, "status": 503, "pace": 0.001}
            try:
                _, body = await here.chat("chat", stream=True, standin=wish)
            except UpstreamError:
                assert engine in ("trtllm", "triton")
                return
            events = [line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith(b"data: {")]
            errors = [here.dialect.frame_error(orjson.loads(event)) for event in events]
            assert errors[:-1] == [None] * (len(events) - 1)
            assert isinstance(errors[-1], Overloaded)

    run(story())


@every_engine()
def test_its_judgement_of_a_request_is_the_callers(engine: Engine) -> None:
    async def story() -> None:
        async with site(engine) as here:
            status, body = await here.chat("chat", temperature=-1)
            error = here.dialect.error(status, body)
            assert isinstance(error, WorkerRefused)
            assert (error.status, "temperature" in error.message) == (400, True)

    run(story())


@every_engine()
def test_a_failure_of_its_own_is_not(engine: Engine) -> None:
    async def story() -> None:
        async with site(engine) as here:
            status, body = await here.chat("chat", standin={"fault": "refuse", "status": 500})
            assert isinstance(here.dialect.error(status, body), UpstreamError)

    run(story())


@pytest.mark.parametrize("engine", ["vllm", "triton", "openai"])
def test_a_model_it_does_not_have_is_the_gateways_mistake(engine: Engine) -> None:
    async def story() -> None:
        async with site(engine) as here:
            status, body = await here.chat("nobody")
            error: GatewayError = here.dialect.error(status, body)
            assert isinstance(error, UpstreamError)
            assert error.code == "worker_lacks_model"

    run(story())


@pytest.mark.parametrize("engine", ["vllm", "triton", "sglang"])
def test_adapters_it_has_are_found_and_asked(engine: Engine) -> None:
    async def story() -> None:
        async with site(engine, adapters=["support"]) as here:
            listed = await here.prober.listing(model(), 5.0)
            assert list(listed.adapters) == ["support"]
            status, body = await here.chat(listed.adapters["support"], "support")
            assert (status, orjson.loads(body)["model"]) == (200, "support")
            status, body = await here.chat(listed.base_name)
            assert (status, orjson.loads(body)["model"]) == (200, "chat")

    run(story())


def test_trtllm_loads_an_adapter_by_the_path_that_a_request_brings() -> None:
    async def story() -> None:
        async with site("trtllm") as here:
            assert isinstance(here.dialect, TakesAdapterPaths)
            listed = await here.prober.listing(model(), 5.0)
            status, body = await here.chat(listed.adapters["support"], "support")
            assert (status, orjson.loads(body)["model"]) == (200, "support")
            assert here.standin.models.adapters == {"support": PATH}
            assert "completions" not in here.dialect.salted_endpoints
            status, _ = await here.post("/v1/completions", {"model": "chat", "prompt": "a", "cache_salt": "x"})
            assert status == 400

    run(story())


def test_tgi_takes_every_name_but_its_own_for_an_adapters() -> None:
    async def story() -> None:
        async with site("tgi", adapters=["support"]) as here:
            status, body = await here.chat("support", "support")
            assert (status, orjson.loads(body)["model"]) == (200, "support")
            status, body = await here.chat("org/whatever")
            assert (status, orjson.loads(body)["model"]) == (200, "chat")

    run(story())


def test_who_places_adapters_is_known() -> None:
    assert [name for name in ENGINES if isinstance(DIALECTS[name], PlacesAdapters)] == ["vllm", "sglang"]


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_adapters_are_loaded_and_unloaded_while_it_runs(engine: Engine) -> None:
    async def story() -> None:
        async with site(engine) as here:
            dialect = here.dialect
            assert isinstance(dialect, PlacesAdapters)
            for _ in range(2):  # what is there already is no failure
                assert dialect.load_refusal(*await here.order(dialect.load_adapter("support", PATH))) is None
            assert here.standin.models.adapters == {"support": PATH}
            listed = await here.prober.listing(model(), 5.0)
            assert list(listed.adapters) == ["support"]
            why = dialect.load_refusal(*await here.order(dialect.load_adapter("other", "/missing/v1")))
            assert why is not None
            assert "other" in why
            assert list(here.standin.models.adapters) == ["support"]
            for _ in range(2):
                assert dialect.unload_refusal(*await here.order(dialect.unload_adapter("support"))) is None
            assert here.standin.models.adapters == {}

    run(story())


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize("answer", [b"", b"[]", b"<html>", b'{"success":1}', b'{"detail":"Not Found"}'])
def test_an_order_that_is_not_understood_is_not_done(engine: Engine, answer: bytes) -> None:
    dialect = DIALECTS[engine]
    assert isinstance(dialect, PlacesAdapters)
    for status in (400, 404, 500):
        assert dialect.load_refusal(status, answer)
        assert dialect.unload_refusal(status, answer)


def test_vllm_that_takes_no_orders_says_how_it_would() -> None:
    dialect = DIALECTS["vllm"]
    assert isinstance(dialect, PlacesAdapters)
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in (dialect.load_refusal(404, b'{"detail":"Not Found"}') or "")
