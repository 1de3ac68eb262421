"""The traffic an audit is tried with: every endpoint, every way to answer, every moment to leave."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from loadtests.audit import traffic
from loadtests.client import Target
from loadtests.standin import Behaviour, Standin


def test_as_many_leave_as_were_to_and_of_every_kind() -> None:
    asks = traffic.asks(random.Random(1), "m", 400, 0.25)
    leaving = [ask for ask in asks if ask.leaves]
    assert len(leaving) == 100
    assert Counter(ask.path for ask in asks).most_common()[-1][1] == 100
    assert {(ask.path, ask.stream) for ask in leaving} == {(ask.path, ask.stream) for ask in asks}
    assert {ask.leaves for ask in leaving} == set(traffic.LEAVES)
    several = {(ask.path, ask.stream, bool(ask.leaves)) for ask in asks if ask.body.get("n", 1) > 1}
    assert len(several) == 8, "chats and completions, streamed or not, of who stays and who leaves"
    assert {type(ask.body["prompt"]) for ask in asks if "prompt" in ask.body} == {str, list}
    assert traffic.asks(random.Random(1), "m", 400, 0.25) == asks


def test_who_leaves_is_gone_for_the_worker() -> None:
    async def story() -> None:
        async with Standin(["m"], behaviour=Behaviour(tokens=30, pace=0.01)) as worker:
            asks = [ask for ask in traffic.asks(random.Random(2), "m", 40, 0.5) if not ask.leaves or ask.stream]
            seen = await traffic.run(Target(worker.url), asks, clients=8)
            await worker.wait_idle()
            assert seen.left.total() == sum(1 for ask in asks if ask.leaves)
            assert seen.statuses[200] >= sum(1 for ask in asks if not ask.leaves)
            assert worker.aborted > 0

    asyncio.run(story())
