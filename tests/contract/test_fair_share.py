"""Two tenants before one full worker, a real one: what each is served goes by its weight, not by what it sends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from loadtests.client import Target, chat_request
from loadtests.drive import Run, closed_loop
from tests.contract.conftest import KEY, OTHER_KEY, OTHER_WEIGHT, Stack

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

SECONDS = 15.0
TOKENS = 8  # of every answer: what is served is their number


def test_what_a_full_engine_does_is_shared_by_weight(stack: Stack) -> None:
    hot, other = asyncio.run(contend(stack.url, {KEY: 20, OTHER_KEY: 6}))
    assert hot.errors.total() == other.errors.total() == 0
    assert other.requests / hot.requests == pytest.approx(OTHER_WEIGHT, rel=0.2)


async def contend(url: str, clients: dict[str, int]) -> list[Run]:
    runs: list[Awaitable[Run]] = []
    for key, count in clients.items():
        target = Target(url, (("authorization", f"Bearer {key}"),))
        request = chat_request(target, "mini", stream=False, tokens=TOKENS, extra={"ignore_eos": True})
        runs.append(closed_loop(target, request, connections=count, seconds=SECONDS, warmup=2.0))
    return await asyncio.gather(*runs)
