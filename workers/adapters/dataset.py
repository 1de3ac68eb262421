"""What an adapter is taught: one JSON object per line, in one of the three shapes that training tools share.

    {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}
    {"prompt": "…", "completion": "…"}
    {"text": "…"}

Assistant messages and completions are learnt, what comes before them is only read; of a `text` everything is learnt. An
assistant message with `"weight": 0` is read only. Other fields of a line are let pass: datasets carry their own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, cast

from workers.errors import WrongUsage
from workers.reading import opened

MOST_LINE_BYTES = 4 * 1024 * 1024
MOST_EXAMPLES = 1_000_000
ROLES = ("system", "developer", "user", "assistant", "tool")
SHAPES = ("messages", "prompt", "text")
HOLD_OUT_SHARE, MOST_HELD_OUT = 0.1, 256


class BadExample(Exception):
    """One line is no example; the message begins in the middle of a sentence."""


@dataclass(frozen=True, slots=True)
class Message:
    """`learnt` is whether the model is to produce it."""

    role: str
    content: str
    learnt: bool = False


@dataclass(frozen=True, slots=True)
class Chat:
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Completion:
    prompt: str
    completion: str


@dataclass(frozen=True, slots=True)
class Text:
    text: str


Example = Chat | Completion | Text


@dataclass(frozen=True, slots=True)
class Dataset:
    """The examples of one file in its order, and the SHA-256 of its bytes (hexadecimal)."""

    name: str
    sha256: str
    examples: tuple[Example, ...]


def read(path: Path) -> Dataset:
    """All examples of a file. Raises WrongUsage with the line that is none."""
    total = hashlib.sha256()
    examples: list[Example] = []
    try:
        with opened(path) as file:
            number = 0
            while line := file.readline(MOST_LINE_BYTES + 1):
                number += 1
                total.update(line)
                try:
                    example = parse(line)
                except BadExample as error:
                    raise WrongUsage(f"{path}, line {number}: {error}") from None
                if example is not None:
                    examples.append(example)
                if len(examples) > MOST_EXAMPLES:
                    raise WrongUsage(f"{path} has more than {MOST_EXAMPLES} examples; give a part of it")
    except OSError as error:
        raise WrongUsage(f"{path} cannot be read: {error.strerror}; give a file with one JSON object a line") from None
    if not examples:
        raise WrongUsage(f"{path} has no examples; give one JSON object a line, such as {SAMPLE}")
    return Dataset(path.name, total.hexdigest(), tuple(examples))


SAMPLE = '{"prompt": "2+2=", "completion": "4"}'


def parse(line: bytes) -> Example | None:
    """The example of one line, None for an empty one. Raises BadExample."""
    if len(line) > MOST_LINE_BYTES:
        raise BadExample(f"longer than {MOST_LINE_BYTES} bytes; give one example a line")
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise BadExample("not UTF-8; save the file as UTF-8") from None
    if not text.strip():
        return None
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise BadExample(f"not JSON; write one object a line, such as {SAMPLE}") from None
    if not isinstance(found, dict):
        raise BadExample(f"not a JSON object; write one a line, such as {SAMPLE}")
    return _example(cast("dict[str, object]", found))


def _example(fields: Mapping[str, object]) -> Example:
    shapes = [shape for shape in SHAPES if shape in fields]
    if len(shapes) != 1:
        had = " and ".join(f"`{shape}`" for shape in shapes) or "none of them"
        raise BadExample(f"give one of `messages`, `prompt` with `completion`, or `text`, not {had}")
    if shapes == ["messages"]:
        return Chat(_messages(fields["messages"]))
    if shapes == ["text"]:
        return Text(_filled(fields, "text"))
    return Completion(_string(fields, "prompt"), _filled(fields, "completion"))


def _messages(found: object) -> tuple[Message, ...]:
    if not isinstance(found, list) or not found:
        raise BadExample("`messages` must be a list of messages")
    messages = tuple(_message(one) for one in cast("list[object]", found))
    if not any(message.learnt for message in messages):
        raise BadExample("none of its `messages` is an assistant's to learn from; the answers have the role assistant")
    return messages


def _message(found: object) -> Message:
    if not isinstance(found, dict):
        raise BadExample("each message must be an object with `role` and `content`")
    fields = cast("dict[str, object]", found)
    role = fields.get("role")
    if role not in ROLES:
        raise BadExample(f"a message's `role` must be one of {', '.join(ROLES)}, not {ascii(role)[:60]}")
    if fields.get("tool_calls"):
        raise BadExample("`tool_calls` can not be learnt; write the call into `content` as the model is to write it")
    if role != "assistant":
        return Message(cast("str", role), _string(fields, "content"))
    weight = fields.get("weight", 1)
    if weight not in (0, 1):
        raise BadExample(f"an assistant message's `weight` must be 0 or 1, not {ascii(weight)[:60]}")
    return Message("assistant", _filled(fields, "content") if weight else _string(fields, "content"), bool(weight))


def _string(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise BadExample(f"`{name}` must be a string" + ("" if name in fields else "; it is missing"))
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadExample(f"`{name}` has half a character (a lone surrogate); no tokenizer takes that") from None
    return value


def _filled(fields: Mapping[str, object], name: str) -> str:
    value = _string(fields, name)
    if not value:
        raise BadExample(f"`{name}` is empty; there is nothing to learn from it")
    return value


def held_out(examples: Sequence[Example], seed: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """(training, held out): a tenth of the distinct examples set aside by seed, none of them also trained on. Raises
    WrongUsage where there are not two distinct ones."""
    distinct = list(dict.fromkeys(examples))
    if len(distinct) < 2:
        raise WrongUsage("one distinct example can not be both learnt and held out; give more, or --eval FILE")
    count = max(1, min(MOST_HELD_OUT, int(len(distinct) * HOLD_OUT_SHARE)))
    aside = set(Random(seed).sample(distinct, count))
    return tuple(one for one in examples if one not in aside), tuple(one for one in distinct if one in aside)


def unseen(held: Iterable[Example], training: Iterable[Example]) -> tuple[Example, ...]:
    """Those that are not trained on, once each: what was learnt by heart says nothing."""
    known = set(training)
    return tuple(one for one in dict.fromkeys(held) if one not in known)
