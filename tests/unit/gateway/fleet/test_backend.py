"""What a worker's engine tells of itself, in what the router sees of it."""

from __future__ import annotations

import pytest

from gateway.engines import DIALECTS
from gateway.engines.load import NO_LOAD, Load
from gateway.fleet.backend import Backend
from gateway.ledger.pricing import Meter
from gateway.routing.prefix import BLOCK_TOKENS, PrefixCache, PrefixIndex
from gateway.table import Worker
from gateway.upstream.pool import Pool


def made(prefixes: PrefixCache | None) -> Backend:
    worker = Worker("w", "http://127.0.0.1:1", "vllm", "m", "v", None, 1, 0, None, None, None, None)
    return Backend(worker=worker, pool=Pool(worker.url), dialect=DIALECTS["vllm"], meter=Meter(), prefixes=prefixes)


def test_the_prefix_cache_is_as_large_as_the_engine_says_and_stays_so_while_it_says_nothing() -> None:
    cache = PrefixIndex().enrol()
    backend = made(cache)
    backend.polled(Load(cache_tokens=5_000 * BLOCK_TOKENS), 1.0)
    assert cache.most == 5_000
    backend.polled(NO_LOAD, 1.0)
    assert cache.most == 5_000


def test_its_tokens_are_those_of_the_engine() -> None:
    cache = PrefixIndex().enrol()
    backend = made(cache)
    backend.prompt_ratio = 1.25  # its tokenizer makes more of a text than was estimated
    backend.polled(Load(cache_tokens=1_000 * BLOCK_TOKENS), 1.0)
    assert cache.most == 800
    backend.prompt_ratio = 2.0
    backend.polled(Load(cache_tokens=1_000 * BLOCK_TOKENS), 2.0)
    assert cache.most == 500


@pytest.mark.parametrize(("tokens", "most"), [(1_000, 700), (1_100, 1_100), (100, 100)])
def test_what_answers_said_holds_until_the_engine_is_another(tokens: int, most: int) -> None:
    cache = PrefixIndex().enrol()
    backend = made(cache)
    backend.polled(Load(cache_tokens=1_000 * BLOCK_TOKENS), 1.0)
    cache.limit(700)
    backend.polled(NO_LOAD, 1.0)
    backend.polled(Load(cache_tokens=tokens * BLOCK_TOKENS), 2.0)
    assert cache.most == most


def test_without_an_index_nothing_is_kept() -> None:
    backend = made(None)
    backend.polled(Load(running=2, cache_tokens=100), 1.0)
    assert (backend.running, backend.prefixes) == (2, None)
