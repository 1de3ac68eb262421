"""What a task is: examples with known answers, and how an answer is graded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from workers.errors import WorkerToolError
from workers.evaluation.client import Client


class CannotGrade(WorkerToolError):
    """Whether an answer is right cannot be decided; the message says why."""


@dataclass(frozen=True, slots=True)
class Example:
    """One question, as a `prompt` to complete or as the `messages` of a chat.

    With `choices`, each a continuation of the prompt, the model writes nothing: its answer is the one it finds most
    likely. `answers` are the right ones, in whatever form the task's grade takes them.
    """

    answers: tuple[str, ...]
    prompt: str | None = None
    messages: tuple[Mapping[str, str], ...] = ()
    choices: tuple[str, ...] = ()
    max_tokens: int = 64
    stop: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """The same for the same example in any order and any process."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:24]


@runtime_checkable
class Task(Protocol):
    """Examples and their grading; both are pure, and called in any thread. What is there twice is asked once."""

    @property
    def name(self) -> str: ...
    def examples(self, seed: int, count: int) -> Sequence[Example]:
        """`count` examples, the same for the same seed, or all there are."""
        ...

    def grade(self, example: Example, text: str) -> bool:
        """Whether `text`, what the model wrote or the choice it made, is right. May raise CannotGrade."""
        ...


@runtime_checkable
class SelfAsking(Protocol):
    """A task that asks and grades by itself, like another harness does."""

    @property
    def name(self) -> str: ...
    async def answer(self, client: Client, seed: int, count: int) -> TaskAnswers: ...


AnyTask = Task | SelfAsking


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Answer(_Part):
    """What one model answered to one example; `failed` says why there is no answer, which is not right either."""

    example: str  # Example.identity
    text: str
    right: bool
    failed: str | None = None


class TaskAnswers(_Part):
    """One model's answers to a task; JSON, so that a reference has to be asked only once. Raises ValidationError."""

    task: str
    seed: int
    answers: tuple[Answer, ...]

    @property
    def asked(self) -> str:
        """SHA-256 of what was asked: equal where the same examples were."""
        examples = sorted(answer.example for answer in self.answers)
        return hashlib.sha256("\n".join(examples).encode()).hexdigest()
