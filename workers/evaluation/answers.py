"""What an endpoint wrote: the one reader of the OpenAI API's completions and chat completions in the evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workers.errors import WorkerToolError


class NotAnAnswer(WorkerToolError):
    """The endpoint said 200 and sent something else than the API's answer."""


@dataclass(frozen=True, slots=True)
class Written:
    """One choice of an answer. `logprobs` are those of `tokens`, in nats: empty where none were asked for, None for the
    first token of a prompt, and NaN or infinite only if the endpoint says so."""

    text: str
    finish: str | None  # stop, length, …
    tokens: tuple[str, ...] = ()
    logprobs: tuple[float | None, ...] = ()


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _TextLogprobs(_Lenient):
    tokens: list[str] = Field(default_factory=list[str])
    token_logprobs: list[float | None] = Field(default_factory=list[float | None])


class _TextChoice(_Lenient):
    index: int = 0
    text: str
    finish_reason: str | None = None
    logprobs: _TextLogprobs | None = None


class _Completion(_Lenient):
    choices: list[_TextChoice] = Field(min_length=1)


class _ChatToken(_Lenient):
    token: str
    logprob: float | None


class _ChatLogprobs(_Lenient):
    content: list[_ChatToken] | None = None


class _Message(_Lenient):
    content: str | None = None


class _ChatChoice(_Lenient):
    message: _Message
    finish_reason: str | None = None
    logprobs: _ChatLogprobs | None = None


class _Chat(_Lenient):
    choices: list[_ChatChoice] = Field(min_length=1)


def completions(body: Mapping[str, Any]) -> list[Written]:
    """Every choice of an answer of /v1/completions, in the order of the prompts. Raises NotAnAnswer."""
    try:
        choices = _Completion.model_validate(body).choices
    except ValidationError as error:
        raise _not_an_answer("/v1/completions", error) from None
    return [_text(choice) for choice in sorted(choices, key=lambda choice: choice.index)]


def chat(body: Mapping[str, Any]) -> Written:
    """The first choice of an answer of /v1/chat/completions. Raises NotAnAnswer."""
    try:
        choice = _Chat.model_validate(body).choices[0]
    except ValidationError as error:
        raise _not_an_answer("/v1/chat/completions", error) from None
    tokens = (choice.logprobs.content if choice.logprobs else None) or []
    return Written(
        choice.message.content or "",
        choice.finish_reason,
        tuple(token.token for token in tokens),
        tuple(token.logprob for token in tokens),
    )


def _text(choice: _TextChoice) -> Written:
    found = choice.logprobs or _TextLogprobs()
    return Written(choice.text, choice.finish_reason, tuple(found.tokens), tuple(found.token_logprobs))


def _not_an_answer(path: str, error: ValidationError) -> NotAnAnswer:
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return NotAnAnswer(f"what {path} answered is not in the OpenAI API's format: {where}: {first['msg']}")
