"""The ledger has what the real engines have counted, to the token: also of who left before the end."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine
from typing import Any

import pytest
from openai import OpenAI

from gateway.cli import main
from loadtests.audit import books, traffic
from loadtests.audit.books import Counters, Tally
from loadtests.client import Target
from tests.contract.conftest import KEY, PATIENCE, Stack

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

REQUESTS = 60
ABORTS = 0.25  # of which a few have had their answer by the time they leave
SETTLED_SECONDS = 60.0


def audited(stack: Stack, worker: str, work: Coroutine[Any, Any, object]) -> tuple[Counters, Tally]:
    """What the engine counts while `work` is done, and what the ledger comes to have of it."""
    url = f"http://127.0.0.1:{stack.workers[worker]}"
    before, since = books.calm_counters(url, PATIENCE), time.time()
    asyncio.run(work)
    after = books.calm_counters(url, PATIENCE)
    counted = Counters(*(now - then for now, then in zip(after, before, strict=True)))
    return counted, books.reconciled(stack.ledger, worker, since, counted, SETTLED_SECONDS)


def test_a_run_with_aborts_at_every_moment(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    target = Target(stack.url, (("authorization", f"Bearer {KEY}"),))
    asks = traffic.asks(random.Random(7), "scribe", REQUESTS, ABORTS)
    engine, ledger = audited(stack, "chat", traffic.run(target, asks, clients=8))
    assert (ledger.prompt_tokens, ledger.output_tokens) == engine
    assert ledger.attempts <= REQUESTS  # who left before it was asked for anything is none
    assert ledger.estimated == ledger.outcomes["aborted"] >= 6
    assert ledger.outcomes["ok"] + ledger.outcomes["aborted"] == ledger.attempts
    assert main(["audit", "--config", str(stack.config), "--worker", "chat", "--now"]) in (0, 1)
    assert "chat" in capsys.readouterr().out


def test_what_is_embedded_and_ranked_counts_its_prompts(stack: Stack, client: OpenAI) -> None:
    async def work() -> None:
        model = "text-embedding-3-small"
        await asyncio.to_thread(client.embeddings.create, model=model, input=["import os", "def read(path):"])
        body = {"model": "embedder", "query": "a file", "documents": ["open(path)", "a b c"]}
        await asyncio.to_thread(client.post, "/rerank", body=body, cast_to=object)
        await asyncio.to_thread(
            client.post, "/score", body={"model": "embedder", "text_1": "a", "text_2": "b"}, cast_to=object
        )

    engine, ledger = audited(stack, "embed", work())
    assert (ledger.prompt_tokens, ledger.output_tokens, ledger.corrections) == (*engine, 0)
    assert engine.prompt_tokens > 0
