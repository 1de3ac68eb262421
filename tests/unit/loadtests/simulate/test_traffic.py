"""Requests from calls: when they come, whose they are, and what is made up."""

from __future__ import annotations

from collections import Counter

from loadtests.simulate.traffic import Mix, coarseness, conversations, requests_of
from loadtests.trace import Call, shared_tokens

BURSTS = [Call(3.0 * (n // 10), 1_000 + n, 10, (0, n)) for n in range(200)]


def test_a_clock_that_ticks_slower_than_calls_come_is_coarse() -> None:
    assert coarseness(BURSTS) == 3.0
    assert coarseness([Call(float(n), 1, 1, ()) for n in range(10)]) == 0.0
    assert coarseness(BURSTS[:10]) == 0.0


def test_calls_of_one_moment_are_spread_over_the_tick_by_the_seed() -> None:
    one, same, other = (requests_of(BURSTS, Mix(), seed) for seed in (0, 0, 1))
    assert one == same != other
    assert [request.number for request in one] == list(range(200))
    assert [request.at for request in one] == sorted(request.at for request in one)
    assert Counter(int(request.at // 3) for request in one) == dict.fromkeys(range(20), 10)
    assert sorted(request.prompt for request in one) == [call.input_tokens for call in BURSTS]
    assert [request.at for request in requests_of(BURSTS, Mix(spread=0.0), 0)] == [call.at for call in BURSTS]


def test_prompts_of_which_nothing_is_known_have_no_blocks() -> None:
    [request] = requests_of([Call(0.0, 700, 5, (2,), block=700)], Mix(), 0)
    assert (request.prompt, request.blocks) == (700, ())


def test_a_conversation_keeps_its_tenant_and_adapter_and_shares_no_block_with_others() -> None:
    calls = conversations(600, 3)
    requests = requests_of(calls, Mix(tenants=3, adapters=2), 0)
    whose: dict[int, set[tuple[str, str]]] = {}
    for request in requests:
        for block in request.blocks:
            whose.setdefault(block, set()).add((request.tenant, request.adapter))
    assert all(len(owners) == 1 for owners in whose.values())
    tenants = Counter(request.tenant for request in requests)
    assert set(tenants) == {"t0", "t1", "t2"}
    assert tenants.most_common(1)[0][0] == "t0"
    assert {request.adapter for request in requests} == {"", "a0", "a1"}
    blocks = sum(len(call.blocks) for call in calls)
    assert sum(len(request.blocks) for request in requests) == blocks


def test_made_up_conversations_repeat_what_was_said() -> None:
    calls = conversations(1_000, 1, rate=2.0)
    assert calls == conversations(1_000, 1, rate=2.0)
    assert len(calls) == 1_000
    assert [call.at for call in calls] == sorted(call.at for call in calls)
    assert all(len(call.blocks) == -(-call.input_tokens // call.block) for call in calls)
    assert 400 < calls[-1].at < 700
    shared = shared_tokens(calls) / sum(call.input_tokens for call in calls)
    assert 0.4 < shared < 0.8
