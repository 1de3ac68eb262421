"""Asks a model a task's examples, and compares two models' answers."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import Callable, Sequence

from workers.errors import WorkerToolError
from workers.evaluation import answers, paired, result
from workers.evaluation.client import Client, Endpoint, Refused
from workers.evaluation.tasks.task import Answer, AnyTask, CannotGrade, Example, SelfAsking, Task, TaskAnswers

FAILURES_SHOWN = 200


class CannotMeasure(WorkerToolError):
    """A task could not be asked as it is; the message says why."""


async def ask_tasks(
    client: Client, tasks: Sequence[AnyTask], seed: int, count: int, answered: Callable[[], object] = lambda: None
) -> tuple[TaskAnswers, ...]:
    """One model's answers to `count` examples of each task; `answered` is called after each answer.

    Raises CannotMeasure where a task has no example, or none was answered, and NoAnswer where the endpoint is lost.
    """
    found: list[TaskAnswers] = []
    for task in tasks:
        if isinstance(task, SelfAsking):
            given = await task.answer(client, seed, count)
        else:
            given = await _ask(client, task, seed, count, answered)
        if not given.answers:
            raise CannotMeasure(f"task {task.name} has no examples")
        if all(answer.failed for answer in given.answers):
            raise CannotMeasure(f"{client.endpoint} answered no example of task {task.name}: {_failures(given)}")
        found.append(given)
    return tuple(found)


def compare_tasks(reference: Sequence[TaskAnswers], candidate: Sequence[TaskAnswers]) -> tuple[result.Task, ...]:
    """What was lost and gained in each task, in the reference's order. What the candidate failed to answer is
    wrong; what the reference failed to answer measures nothing. Raises CannotMeasure and NotPaired."""
    others = {given.task: given for given in candidate}
    if {given.task for given in reference} != others.keys():
        raise CannotMeasure("the reference and the candidate were asked different tasks; ask both the same")
    return tuple(_compared(given, others[given.task]) for given in reference)


def fingerprint(tasks: Sequence[AnyTask], seed: int, count: int) -> str:
    """The same where the same would be asked: the name of each task, and its examples where it tells them."""
    told = [
        (task.name, [] if isinstance(task, SelfAsking) else [one.identity for one in task.examples(seed, count)])
        for task in tasks
    ]
    return hashlib.sha256(json.dumps([told, seed, count]).encode()).hexdigest()


async def measure_tasks(
    reference: Endpoint, candidate: Endpoint, tasks: Sequence[AnyTask], seed: int, count: int
) -> tuple[result.Task, ...]:
    """Both asked, one after the other, where both endpoints are up at the same time."""
    async with Client(reference) as client:
        expected = await ask_tasks(client, tasks, seed, count)
    async with Client(candidate) as client:
        return compare_tasks(expected, await ask_tasks(client, tasks, seed, count))


async def _ask(client: Client, task: Task, seed: int, count: int, answered: Callable[[], object]) -> TaskAnswers:
    examples = {example.identity: example for example in task.examples(seed, count)}

    async def one(item: tuple[str, Example]) -> Answer:
        identity, example = item
        text = ""
        try:
            text = await answer_to(client, example, seed)
            right = await asyncio.to_thread(task.grade, example, text)  # others' requests go on meanwhile
            return Answer(example=identity, text=text, right=right)
        except (Refused, answers.NotAnAnswer, CannotGrade) as error:
            return Answer(example=identity, text=text, right=False, failed=str(error))
        finally:
            answered()

    alone = client.endpoint.scores_alone and any(example.choices for example in examples.values())
    given = await client.each(examples.items(), one, alone=alone)
    return TaskAnswers(task=task.name, seed=seed, answers=tuple(given))


async def answer_to(client: Client, example: Example, seed: int) -> str:
    """What the model writes, or the choice it makes, without any sampling. Raises Refused, NoAnswer, CannotGrade."""
    if example.choices:
        return await _choice(client, example, seed)
    fields: dict[str, object] = {"max_tokens": example.max_tokens, "temperature": 0, "seed": seed}
    if example.stop:
        fields["stop"] = list(example.stop)
    if example.prompt is not None:
        return answers.completions(await client.ask("/v1/completions", prompt=example.prompt, **fields))[0].text
    messages = [dict(message) for message in example.messages]
    return answers.chat(await client.ask("/v1/chat/completions", messages=messages, **fields)).text


async def _choice(client: Client, example: Example, seed: int) -> str:
    fields: dict[str, object] = {"max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0, "seed": seed}

    async def one(choice: str) -> answers.Written:
        # A request each, because some engines take one prompt at a time.
        prompt = (example.prompt or "") + choice
        return answers.completions(await client.ask("/v1/completions", prompt=prompt, **fields))[0]

    texts = await client.each(example.choices, one, alone=client.endpoint.scores_alone)
    if not all(len(text.logprobs) > 1 for text in texts):
        raise CannotGrade(f"{client.endpoint} gives no log-probabilities of a prompt, which choices are judged by")
    # One token is written, because not every engine takes none; it says nothing of the choice.
    scores = likelihoods([text.tokens[:-1] for text in texts], [text.logprobs[:-1] for text in texts])
    if not all(map(math.isfinite, scores)):
        raise CannotGrade(f"{client.endpoint} gives log-probabilities that are not numbers")
    return example.choices[scores.index(max(scores))]


def likelihoods(tokens: Sequence[Sequence[str]], logprobs: Sequence[Sequence[float | None]]) -> list[float]:
    """The log-likelihood of each text, in nats, without the tokens that all texts begin with.

    Those are worth the same in each, but for the noise of computing them; and where a choice and the end of its prompt
    share a token, the comparison is right all the same. The first token of a text has no log-probability.
    """
    shared = 0
    for column in zip(*tokens, strict=False):
        if len(set(column)) > 1:
            break
        shared += 1
    return [sum(value for value in values[shared:] if value is not None) for values in logprobs]


def _compared(reference: TaskAnswers, candidate: TaskAnswers) -> result.Task:
    if any(answer.failed for answer in reference.answers):
        raise CannotMeasure(
            f"the reference failed to answer examples of task {reference.task}, which measure nothing: "
            f"{_failures(reference)}; take them out of the task, or correct how the model is served"
        )
    found = paired.compare(
        reference.task,
        {answer.example: answer.right for answer in reference.answers},
        {answer.example: answer.right for answer in candidate.answers},
    )
    return found.model_copy(update={"unanswered": sum(answer.failed is not None for answer in candidate.answers)})


def _failures(given: TaskAnswers) -> str:
    failed = [answer.failed for answer in given.answers if answer.failed]
    return f"{len(failed)} of {len(given.answers)}, the first: {failed[0][:FAILURES_SHOWN]}"
