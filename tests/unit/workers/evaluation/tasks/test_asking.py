from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.workers.evaluation.stand_in import chat_answer, stand_in, text_answer
from workers.evaluation import result
from workers.evaluation.client import Client, Endpoint, NoAnswer
from workers.evaluation.tasks.asking import (
    CannotMeasure,
    ask_tasks,
    compare_tasks,
    fingerprint,
    likelihoods,
    measure_tasks,
)
from workers.evaluation.tasks.task import CannotGrade, Example, TaskAnswers


class Sums:
    """Chat: `n + n`, right where the sum is somewhere in the answer."""

    name = "sums"

    def examples(self, seed: int, count: int) -> Sequence[Example]:
        return [
            Example((str(2 * n),), messages=({"role": "user", "content": f"{n}+{n}"},), stop=(".",))
            for n in (*range(count), 0)
        ]

    def grade(self, example: Example, text: str) -> bool:
        if text == "?":
            raise CannotGrade("the pattern needs too long")
        return example.answers[0] in text


class Colours:
    """Choices after a prompt."""

    name = "colours"

    def examples(self, seed: int, count: int) -> Sequence[Example]:
        return [Example((" blue",), prompt="The sky is", choices=(" iron", " blue"))]

    def grade(self, example: Example, text: str) -> bool:
        return text in example.answers


def adding(wrong: Sequence[int] = (), broken: Sequence[int] = (), unsure: Sequence[int] = ()) -> Any:
    """An endpoint that adds, but for some numbers."""

    def respond(path: str, body: Mapping[str, Any]) -> tuple[int, object]:
        number = int(body["messages"][0]["content"].partition("+")[0])
        if number in broken:
            return 500, {"error": {"message": "out of memory"}}
        return 200, chat_answer("?" if number in unsure else f"It is {0 if number in wrong else 2 * number}")

    return respond


def asked(endpoint: Endpoint, task: Any, count: int = 20) -> TaskAnswers:
    async def scene() -> TaskAnswers:
        async with Client(endpoint) as client:
            return (await ask_tasks(client, [task], seed=7, count=count))[0]

    return asyncio.run(scene())


def test_two_endpoints_are_compared_example_by_example() -> None:
    with stand_in(adding(wrong=[3])) as reference, stand_in(adding(wrong=[4, 5, 6], broken=[8])) as candidate:
        (task,) = asyncio.run(measure_tasks(reference.endpoint, candidate.endpoint, [Sums()], seed=7, count=20))

    assert isinstance(task, result.Task)
    assert (task.examples, task.reference_correct, task.candidate_correct) == (20, 19, 16)
    assert (task.lost, task.gained, task.unanswered) == (4, 1, 1)
    path, body = reference.asked[0]
    assert path == "/v1/chat/completions"
    assert (body["temperature"], body["seed"], body["max_tokens"], body["stop"]) == (0, 7, 64, ["."])
    assert len(reference.asked) == 20  # the example that is there twice is asked once


def test_answers_are_the_same_after_they_were_written_down() -> None:
    with stand_in(adding(wrong=[3])) as server:
        answers = asked(server.endpoint, Sums())

    assert TaskAnswers.model_validate_json(answers.model_dump_json()) == answers
    assert compare_tasks([answers], [answers])[0].flips == 0
    assert answers.asked != asked_of(5)


def asked_of(count: int) -> str:
    with stand_in(adding()) as server:
        return asked(server.endpoint, Sums(), count).asked


def test_what_the_reference_fails_to_answer_measures_nothing() -> None:
    with stand_in(adding(broken=[2], unsure=[5])) as server:
        partly = asked(server.endpoint, Sums())
    with stand_in(adding()) as server:
        wholly = asked(server.endpoint, Sums())

    with pytest.raises(CannotMeasure, match=r"2 of 20, the first: .*500: out of memory"):
        compare_tasks([partly], [wholly])
    assert compare_tasks([wholly], [partly])[0].lost == 2
    assert sorted(answer.failed or "" for answer in partly.answers)[-1] == "the pattern needs too long"


def test_a_task_that_nothing_answers_is_an_error() -> None:
    with stand_in(lambda path, body: (404, {"error": "no such model"})) as server:
        with pytest.raises(CannotMeasure, match="404: no such model"):
            asked(server.endpoint, Sums())
        with pytest.raises(CannotMeasure, match="has no examples"):
            asked(server.endpoint, Empty())


class Empty(Sums):
    def examples(self, seed: int, count: int) -> Sequence[Example]:
        return []


def test_an_endpoint_that_is_lost_ends_the_task() -> None:
    def respond(path: str, body: Mapping[str, Any]) -> tuple[int, object]:
        raise ConnectionError

    with stand_in(respond) as server, pytest.raises(NoAnswer):
        asked(server.endpoint, Sums())


def test_what_would_be_asked_has_a_fingerprint() -> None:
    tasks = [Sums(), Colours()]
    assert fingerprint(tasks, 7, 5) == fingerprint([Sums(), Colours()], 7, 5)
    others = [
        fingerprint(tasks, 8, 5),
        fingerprint(tasks, 7, 6),
        fingerprint(tasks[:1], 7, 5),
        fingerprint([Empty()], 7, 5),
    ]
    assert len({fingerprint(tasks, 7, 5), *others}) == 5


def test_only_the_same_tasks_can_be_compared() -> None:
    with stand_in(adding()) as server:
        answers = asked(server.endpoint, Sums())
    with pytest.raises(CannotMeasure, match="different tasks"):
        compare_tasks([answers], [])


def scored(logprobs: Mapping[str, Sequence[float | None]]) -> Any:
    """An endpoint that gives the prompt back word by word, with these log-probabilities and one token more."""

    def respond(path: str, body: Mapping[str, Any]) -> tuple[int, object]:
        tokens = [*body["prompt"].split(" "), "more"]
        values = [None, -1, -1, *logprobs[tokens[-2]], -99]
        return 200, text_answer(body["prompt"], "length", {"tokens": tokens, "token_logprobs": values})

    return respond


@pytest.mark.parametrize(("blue", "right"), [(-0.5, True), (-3.0, False)])
def test_a_choice_is_the_one_that_is_most_likely(blue: float, right: bool) -> None:
    with stand_in(scored({"blue": [blue], "iron": [-2.0]})) as server:
        answers = asked(server.endpoint, Colours())

    assert [answer.right for answer in answers.answers] == [right]
    assert answers.answers[0].text == (" blue" if right else " iron")
    assert {body["prompt"] for _, body in server.asked} == {"The sky is iron", "The sky is blue"}
    assert all(body["echo"] is True for _, body in server.asked)


def test_log_probabilities_are_asked_for_alone_where_the_endpoint_needs_it() -> None:
    running, most, lock = 0, 0, threading.Lock()
    respond = scored({"blue": [-0.5], "iron": [-2.0]})

    def counted(path: str, body: Mapping[str, Any]) -> tuple[int, object]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1
        return respond(path, body)

    with stand_in(counted) as server:
        asked(replace(server.endpoint, scores_alone=True), Colours())

    assert (most, len(server.asked)) == (1, 2)


def test_log_probabilities_that_are_no_numbers_are_no_choice() -> None:
    with (
        stand_in(scored({"blue": [float("nan")], "iron": [-2.0]})) as server,
        pytest.raises(CannotMeasure, match="not numbers"),
    ):
        asked(server.endpoint, Colours())


def test_an_endpoint_without_a_prompts_log_probabilities_cannot_choose() -> None:
    with (
        stand_in(lambda path, body: (200, text_answer("blue"))) as server,
        pytest.raises(CannotMeasure, match="gives no log-probabilities of a prompt"),
    ):
        asked(server.endpoint, Colours())


@settings(deadline=None)
@given(
    st.lists(st.sampled_from("ab"), max_size=5),
    st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), min_size=2, max_size=4),
    st.randoms(use_true_random=False),
)
def test_what_all_texts_begin_with_decides_nothing(start: list[str], ends: list[list[str]], random: Any) -> None:
    texts = [start + end for end in ends]
    logprobs = [[None, *(-random.random() for _ in text[1:])] for text in texts]
    noisy = [[value and value + 100 for value in values[: len(start)]] + values[len(start) :] for values in logprobs]

    assert likelihoods(texts, logprobs) == likelihoods(texts, noisy)
