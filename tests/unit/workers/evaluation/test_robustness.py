from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from typing import Any

import pytest

from tests.unit.workers.evaluation.stand_in import Respond, chat_answer, stand_in, text_answer
from workers.evaluation import result
from workers.evaluation.client import Client, Endpoint
from workers.evaluation.robustness import (
    ContextUnknown,
    RobustnessAnswers,
    ask_robustness,
    compare_robustness,
    inputs,
    is_sane,
    is_stuck,
    measure_robustness,
    problem,
)

CONTEXT = 512


def length(body: Mapping[str, Any]) -> int:
    """Tokens of a request: one a character of a chat, one each of a list."""
    return len(body["prompt"]) if "prompt" in body else len(body["messages"][0]["content"])


def engine(path: str, body: Mapping[str, Any]) -> tuple[int, object]:
    """Copes with everything, like vLLM does."""
    if length(body) > CONTEXT or body.get("prompt") == "" or body["max_tokens"] > CONTEXT:
        return 400, {"error": {"message": "This model's maximum context length is 512 tokens."}}
    return answered(path)


def answered(path: str, word: str = "", logprob: float | None = -0.5) -> tuple[int, object]:
    words = [word or f"w{number}" for number in range(9)]
    if path == "/v1/completions":
        return 200, text_answer(" ".join(words), logprobs={"tokens": words, "token_logprobs": [logprob] * 9})
    return 200, chat_answer(
        " ".join(words), logprobs={"content": [{"token": word, "logprob": logprob} for word in words]}
    )


def seen_by(respond: Respond) -> RobustnessAnswers:
    async def scene(endpoint: Endpoint) -> RobustnessAnswers:
        async with Client(endpoint) as client:
            return await ask_robustness(client, seed=0)

    with stand_in(respond, context=CONTEXT) as server:
        return asyncio.run(scene(server.endpoint))


@functools.cache
def coping() -> RobustnessAnswers:
    return seen_by(engine)


def found(candidate: Respond) -> dict[str, result.Robustness]:
    """Compared with an engine that copes with everything."""
    return {one.name: one for one in compare_robustness(coping(), seen_by(candidate))}


def is_emoji(body: Mapping[str, Any]) -> bool:
    return "messages" in body and "👍" in body["messages"][0]["content"]


def test_an_engine_that_copes_with_everything() -> None:
    with stand_in(engine, context=CONTEXT) as one, stand_in(engine, context=CONTEXT) as other:
        compared = asyncio.run(measure_robustness(one.endpoint, other.endpoint, seed=0))

    assert all(each.ok for each in compared)
    assert [each.name for each in compared] == [each.name for each in inputs(0, CONTEXT)]
    asked = [body for _, body in one.asked if body["max_tokens"] != 1]
    assert [body for _, body in other.asked if body["max_tokens"] != 1] == asked
    assert "\ud800" in "".join(body["messages"][0]["content"] for body in asked if "messages" in body)


def test_inputs_are_the_seeds_and_as_long_as_the_context_asks() -> None:
    by_name = {one.name: one for one in inputs(3, CONTEXT)}

    assert inputs(3, CONTEXT) == inputs(3, CONTEXT) != inputs(4, CONTEXT)
    fits, over = by_name["at the context"].fields, by_name["one token over the context"].fields
    assert isinstance(fits["prompt"], list)
    assert isinstance(fits["max_tokens"], int)
    assert len(fits["prompt"]) + fits["max_tokens"] == CONTEXT
    assert isinstance(over["prompt"], list)
    assert len(over["prompt"]) == CONTEXT + 1


def test_what_was_seen_is_the_same_after_it_was_written_down() -> None:
    seen = coping()
    assert RobustnessAnswers.model_validate_json(seen.model_dump_json()) == seen


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((500, {"error": {"message": "NaN"}}), "failed with 500: NaN"),
        ((503, {"error": "busy"}), "failed with 503: busy"),
        ((404, {"error": "no such model"}), "failed with 404"),
        ((200, {"choices": []}), "not in the OpenAI API's format"),
        ((400, {"error": "no emoji"}), "refused with 400: no emoji; it should have been answered"),
        (answered("/v1/chat/completions", logprob=float("nan")), "log-probabilities that cannot be"),
        (answered("/v1/chat/completions", logprob=-9999.0), "log-probabilities that cannot be"),
        (answered("/v1/chat/completions", logprob=None), "log-probabilities that cannot be"),
    ],
)
def test_an_input_that_only_the_candidate_fails(answer: tuple[int, object], says: str) -> None:
    compared = found(lambda path, body: answer if is_emoji(body) else engine(path, body))

    assert [name for name, one in compared.items() if not one.ok] == ["emoji"]
    assert says in compared["emoji"].detail


def test_one_loop_is_chance_and_many_are_a_fault() -> None:
    once = found(lambda path, body: answered(path, word="!") if is_emoji(body) else engine(path, body))
    assert all(one.ok for one in once.values())
    always = found(lambda path, body: answered(path, word="!") if engine(path, body)[0] == 200 else engine(path, body))
    stuck = [one.detail for one in always.values() if not one.ok]
    assert len(stuck) >= 10
    assert all("all of them the same, unlike the reference's" in detail for detail in stuck)


def test_what_is_longer_than_the_context_has_to_be_refused() -> None:
    compared = found(lambda path, body: answered(path) if length(body) > CONTEXT else engine(path, body))
    assert [name for name, one in compared.items() if not one.ok] == [
        "one token over the context",
        "far over the context",
    ]


def test_a_version_with_a_shorter_context_than_its_reference_does_not_cope() -> None:
    compared = found(lambda path, body: (400, {}) if length(body) > 450 else engine(path, body))
    assert [name for name, one in compared.items() if not one.ok] == ["at the context", "one token repeated"]


def test_what_the_reference_does_not_cope_with_either_is_no_loss() -> None:
    def breaks(path: str, body: Mapping[str, Any]) -> tuple[int, object]:
        return (500, {"error": "broken"}) if is_emoji(body) else engine(path, body)

    broken = seen_by(breaks)
    compared = {one.name: one for one in compare_robustness(broken, broken)}
    assert compared["emoji"].ok
    assert "nor does the reference cope" in compared["emoji"].detail


def test_an_input_that_kills_the_endpoint_is_found_and_nothing_is_asked_afterwards() -> None:
    dead = False

    def dies(path: str, body: Mapping[str, Any]) -> tuple[int, object]:
        nonlocal dead
        dead = dead or is_emoji(body)
        if dead:
            raise ConnectionError
        return engine(path, body)

    candidate = seen_by(dies)
    by_name = {one.name: one for one in candidate.seen}
    assert problem(by_name["far over the context"]) is None
    assert "was lost" in (problem(by_name["emoji"]) or "")
    assert "not asked" in (problem(by_name["huge max_tokens"]) or "")
    compared = {one.name: one.ok for one in compare_robustness(candidate, candidate)}
    assert not compared["emoji"]  # nobody copes by dying together


def test_an_engine_that_answers_but_is_dead_afterwards_is_found() -> None:
    dead = False

    def dies_later(path: str, body: Mapping[str, Any]) -> tuple[int, object]:
        nonlocal dead
        if dead:
            return 500, {"error": "EngineDeadError"}
        dead = is_emoji(body)
        return engine(path, body)

    compared = found(dies_later)
    assert "the endpoint was gone afterwards" in compared["emoji"].detail
    assert compared["one token over the context"].ok


def test_an_endpoint_that_hides_its_context_is_told_it() -> None:
    async def scene(endpoint: Endpoint, context: int | None) -> int:
        async with Client(endpoint) as client:
            return (await ask_robustness(client, 0, context)).context

    with stand_in(engine, context=None) as server:
        assert asyncio.run(scene(server.endpoint, CONTEXT)) == CONTEXT
        with pytest.raises(ContextUnknown):
            asyncio.run(scene(server.endpoint, None))


def test_stuck_and_sane() -> None:
    assert is_stuck(["!"] * 8)
    assert not is_stuck(["!"] * 7)
    assert not is_stuck(["!"] * 7 + ["?"])
    assert is_sane([0.0, -3.5, -12.0])
    assert not is_sane([float("-inf")])
    assert not is_sane([0.5])
