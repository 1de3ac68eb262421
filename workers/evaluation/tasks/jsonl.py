"""A task of one's own, from a file with one JSON object a line.

{"prompt": "2 + 2 =", "answer": "4", "match": "contains"}
{"messages": [{"role": "user", "content": "Capital of France?"}], "answers": ["Paris", "Paris."]}
{"prompt": "The sky is", "choices": [" blue", " iron"], "answer_index": 0}
{"prompt": "As JSON:", "answer": {"city": "Oslo"}, "match": "json", "max_tokens": 40, "stop": ["\\n\\n"]}
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from workers.errors import WrongUsage
from workers.evaluation.tasks import patterns
from workers.evaluation.tasks.matching import Match, matches
from workers.evaluation.tasks.task import Example
from workers.reading import content

LARGEST_FILE = 1 << 30  # bytes
MOST_TOKENS = 32_768


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: str | None = None
    messages: list[_Message] = Field(default_factory=list[_Message], max_length=1000)
    answer: Any = None
    answers: list[Any] = Field(default_factory=list[Any], max_length=1000)
    choices: list[str] = Field(default_factory=list[str], max_length=100)
    answer_index: int | None = None
    match: Match = "exact"
    max_tokens: int = Field(64, ge=1, le=MOST_TOKENS)
    stop: list[str] = Field(default_factory=list[str], max_length=16)

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if (self.prompt is None) == (not self.messages):
            raise ValueError("write either a prompt or messages")
        if self.choices:
            if self.prompt is None:
                raise ValueError("choices are judged by their likelihood after a prompt: write a prompt, not messages")
            if self.answer_index is None or self.right_answers:
                raise ValueError("of choices, answer_index says which is right, and there is no other answer")
            if not 0 <= self.answer_index < len(self.choices):
                raise ValueError(f"answer_index {self.answer_index} is none of the {len(self.choices)} choices")
            if len(set(self.choices)) < max(2, len(self.choices)) or "" in self.choices:
                raise ValueError("write at least two choices that differ, none of them empty")
        elif self.answer_index is not None or not self.right_answers:
            raise ValueError("write answer, answers, or choices with answer_index")
        if self.match != "json" and not all(isinstance(answer, str) and answer for answer in self.right_answers):
            raise ValueError("an answer is a text that is not empty, unless match is json")
        return self

    @property
    def right_answers(self) -> list[Any]:
        return self.answers + ([] if self.answer is None else [self.answer])

    def example(self) -> Example:
        if self.choices and self.answer_index is not None:
            answers = (self.choices[self.answer_index],)
        elif self.match == "json":
            answers = tuple(json.dumps(answer, sort_keys=True) for answer in self.right_answers)
        else:
            answers = tuple(self.right_answers)
        return Example(
            answers=answers,
            prompt=self.prompt,
            messages=tuple(message.model_dump() for message in self.messages),
            choices=tuple(self.choices),
            max_tokens=self.max_tokens,
            stop=tuple(self.stop),
        )


class JsonlTask:
    """The task in a file. It is read and checked whole when this is made: raises WrongUsage with file and line."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self._examples: list[Example] = []
        self._match: dict[str, Match] = {}
        for number, text in enumerate(_lines(path), 1):
            if text.strip():
                self._add(f"{path}, line {number}", text)
        if not self._examples:
            raise WrongUsage(f"{path} has no examples; write one JSON object a line")

    def examples(self, seed: int, count: int) -> Sequence[Example]:
        if count >= len(self._examples):
            return self._examples
        chosen = Random(f"{self.name} {seed}").sample(range(len(self._examples)), count)
        return [self._examples[number] for number in sorted(chosen)]

    def grade(self, example: Example, text: str) -> bool:
        if example.choices:
            return text in example.answers
        return any(matches(self._match[example.identity], answer, text) for answer in example.answers)

    def _add(self, where: str, text: str) -> None:
        try:
            line = _Line.model_validate_json(text)
            if line.match == "regex":
                for pattern in line.right_answers:
                    patterns.check(pattern)
        except ValidationError as error:
            raise WrongUsage(f"{where}: {_first(error)}") from None
        except WrongUsage as error:
            raise WrongUsage(f"{where}: {error}") from None
        example = line.example()
        self._examples.append(example)
        self._match[example.identity] = line.match


def _lines(path: Path) -> list[str]:
    try:
        return content(path, LARGEST_FILE).decode().split("\n")  # JSON may have other line separators in its strings
    except OSError as error:
        raise WrongUsage(f"{path} cannot be read: {error.strerror}; name another, or take a sample of it") from None
    except UnicodeDecodeError as error:
        raise WrongUsage(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    known = f"; known are {', '.join(_Line.model_fields)}" if first["type"] == "extra_forbidden" else ""
    return (f"{where}: " if where else "") + first["msg"].removeprefix("Value error, ") + known
