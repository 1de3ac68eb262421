"""What was written becomes what runs: units converted, defaults filled in, names resolved."""

import pytest

from gateway.config import load
from gateway.table import (
    Candidate,
    Hedge,
    Limits,
    Log,
    Match,
    Price,
    Requires,
    Retry,
    Server,
    Settings,
    SubjectTo,
    Timeout,
)


@pytest.fixture
def table(write, example, environ):
    return load(write(example), environ)


def test_the_process(table):
    settings = table.settings
    assert settings.server == Server("127.0.0.1", 4100, 1, 5 * 1024 * 1024, 2.5)
    assert settings.state == "memory://"
    assert settings.ledger == "sqlite:///var/ledger.db"
    assert (settings.cache.default_ttl, settings.cache.max_entry_bytes) == (90.0, 64 * 1024)
    assert settings.cache.max_memory_bytes == 16 * 1024 * 1024
    assert settings.log == Log("json", "hash")
    assert (settings.probe.every, settings.probe.wait) == (0.5, 2.0)
    assert settings.otlp_endpoint is None
    assert settings.admin_key_digests == {bytes.fromhex("1" * 61 + "aaa")}


def test_an_empty_file_is_the_defaults(write):
    table = load(write({"gateway.yaml": ""}), {})
    assert table.settings == Settings()
    assert (table.models, table.workers, table.routes, table.tenants) == ({}, {}, (), {})


def test_workers(table):
    fp8, int4, vectors, burst = table.workers.values()
    assert (fp8.url, fp8.model, fp8.version, fp8.max_loras) == ("http://[::1]:8000", "chat-8b", "fp8", 8)
    assert fp8.gpu is not None
    assert (fp8.gpu.hourly, fp8.gpu.memory_bytes, fp8.hourly) == (1_100_000_000, 48 * 10**9, 2_200_000_000)
    assert int4.url == "http://127.0.0.1:8102"
    assert int4.launch is not None
    assert (int4.launch.args, int4.launch.env) == (("--max-num-seqs", "8"), {"OMP_NUM_THREADS": "2"})
    assert int4.serves_as == "chat"
    assert (vectors.engine, vectors.launch, vectors.price) == ("tgi", None, None)
    assert burst.url == "https://api.example.com/v1"
    assert burst.price == Price(500_000_000, 100_000_000, 1_500_000_000)
    assert (burst.gpu, burst.hourly, burst.api_key) == (None, 0, "sk-burst")


def test_cached_tokens_cost_as_others_where_nothing_is_said(write, example, environ):
    example = example | {"hosted.yaml": example["hosted.yaml"].replace("cached_input_usd_per_m: 0.10, ", "")}
    price = load(write(example), environ).workers["burst"].price
    assert price is not None
    assert price.cached_input == price.input == 500_000_000


def test_models(table):
    chat = table.models["chat-8b"]
    assert (chat.context, chat.task, chat.traffic) == (8192, "generate", (("fp8", 95), ("int4", 5)))
    assert chat.versions["int4"].quality == 0.981
    assert chat.adapters["support"].tenants == {"support"}
    assert chat.adapters["sql"].tenants is None
    assert table.models["vectors"].task == "embed"
    assert table.models["big"].versions["hosted"].quantization == "none"


def test_what_a_version_is_and_needs(table):
    fp8, int4 = table.models["chat-8b"].versions["fp8"], table.models["chat-8b"].versions["int4"]
    assert fp8.digest == f"sha256:{'5e' * 32}"
    assert fp8.requires == Requires((8, 9), (580, 65), True, ("avx512f", "amx_int8"), 8_500_000_000)
    assert (int4.digest, int4.requires) == (None, Requires())
    assert table.models["chat-8b"].adapters["sql"].digest == f"sha256:{'e5' * 32}"


def test_aliases_stand_for_the_end_of_their_chain(table):
    assert table.aliases == {
        "gpt-4o-mini": "chat-8b",
        "helpdesk": "chat-8b:support",
        "gpt-4o": "chat-8b",
        "smart": "auto",
    }


def test_routes(table):
    cheap, rest = table.routes
    assert cheap.match == Match(frozenset(["auto"]), None, frozenset(["standard"]), 8000)
    assert cheap.candidates == (Candidate("chat-8b", "int4"), Candidate("chat-8b", "fp8"), Candidate("big", None))
    assert (cheap.minimize, cheap.mode, cheap.hedge) == ("cost", "enforce", None)
    assert cheap.subject_to == SubjectTo(0.8, 0.98)
    assert cheap.fallback == (Candidate("big", None),)
    assert cheap.retry == Retry(1, 0.125)
    assert cheap.timeout == Timeout(2.0, 30.0, 20.0, 600.0)
    assert (cheap.cache.when, cheap.cache.ttl) == ("always", 3600.0)
    assert rest.match == Match(frozenset(["auto", "automatic"]), frozenset(["research"]), None, None)
    assert rest.candidates == (Candidate("chat-8b", None), Candidate("chat-8b", "fp8", "sql"))
    assert (rest.minimize, rest.retry, rest.timeout) == ("latency", Retry(), Timeout())
    assert (rest.cache.when, rest.cache.ttl) == ("deterministic", 90.0)


def test_a_hedge_keeps_what_was_written(write, example, environ):
    routes = example["routes.yaml"] + "    hedge: {after: 250ms, at_most: 3%}\n"
    assert load(write(example | {"routes.yaml": routes}), environ).routes[1].hedge == Hedge(None, 0.25, 0.03)
    routes = routes.replace("250ms", "p99")
    assert load(write(example | {"routes.yaml": routes}), environ).routes[1].hedge == Hedge(99.0, None, 0.03)


def test_tenants_and_their_keys(table):
    support, research = table.tenants["support"], table.tenants["research"]
    assert support.models == {"chat-8b", "chat-8b:support", "auto", "helpdesk"}
    assert support.limits == Limits(600, 200_000, 32)
    assert support.budget is not None
    assert (support.budget.nanousd, support.budget.per, support.budget.on_exceed) == (100_000_000, "day", "warn")
    assert (research.models, research.limits, research.budget, research.tier) == (None, Limits(), None, "gold")
    assert {key.id: key.tenant.name for key in table.keys.values()} == {"prod": "support", "laptop": "research"}
    assert all(digest == key.digest and len(digest) == 32 for digest, key in table.keys.items())


def test_a_table_knows_where_it_is_from(write, example, environ):
    directory = write(example)
    table = load(directory, environ)
    assert table.directory == directory
    assert len(table.revision) == 12
    assert load(directory, environ) == table


def test_prices_are_nano_usd_and_cached_tokens_cost_what_others_do(write, example, environ):
    text = "prices: {chat-8b: {input_usd_per_m: 0.20, output_usd_per_m: 0.6}}\n"
    table = load(write(example | {"models.yaml": example["models.yaml"] + text}), environ)
    assert table.prices == {"chat-8b": Price(200_000_000, 200_000_000, 600_000_000)}
    assert load(write(example), environ).prices == {}
