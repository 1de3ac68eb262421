"""Recorded traffic: when requests came, how long they were, and what their prompts had in common. No IO but the file.

Two public formats are read, told apart by their first line:

    Mooncake   JSONL: {"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [block, …]}; equal ids are
               equal blocks of 512 prompt tokens, so a common beginning is a prefix that a cache could serve
    Azure      CSV: TIMESTAMP,ContextTokens,GeneratedTokens (Azure LLM inference traces of 2023 and 2024)
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Literal, cast

BLOCK = 512  # prompt tokens that one hash id of a Mooncake trace stands for
_AZURE_FIELDS = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]

Format = Literal["mooncake", "azure"]


class TraceError(ValueError):
    """The file is no trace; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a trace."""

    at: float  # seconds from the first one
    input_tokens: int
    output_tokens: int
    blocks: tuple[int, ...]  # what the prompt is made of, `block` tokens each; equal numbers are equal text
    block: int = BLOCK


def read(path: Path) -> list[Call]:
    """Every request in the order of time. TraceError when the file is no trace, OSError when it can not be read."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return parse(file)


def parse(lines: Iterable[str]) -> list[Call]:
    rows = iter(lines)
    first = next(rows, "")
    if first.lstrip().startswith("{"):
        calls = list(_mooncake(_joined(first, rows)))
    elif [field.strip() for field in first.strip().split(",")] == _AZURE_FIELDS:
        calls = list(_azure(rows))
    else:
        raise TraceError(f"line 1: neither a Mooncake object nor the header {','.join(_AZURE_FIELDS)}")
    if not calls:
        raise TraceError("the trace holds no request")
    calls.sort(key=lambda call: call.at)
    return _from_zero(calls)


def _joined(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _mooncake(rows: Iterator[str]) -> Iterator[Call]:
    for number, row in enumerate(rows, 1):
        if not row.strip():
            continue
        try:
            fields: dict[str, object] = json.loads(row)
            blocks = tuple(_whole(block) for block in cast("list[object]", fields["hash_ids"]))
            at = cast(float, fields["timestamp"]) / 1e3
            call = Call(at, _whole(fields["input_length"]), _whole(fields["output_length"]), blocks)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise TraceError(f"line {number}: {_said(error)}") from None
        yield _checked(call, number)


def _azure(rows: Iterator[str]) -> Iterator[Call]:
    """Nothing is known of what their prompts have in common, so nothing is."""
    for number, row in enumerate(rows, 2):
        if not row.strip():
            continue
        try:
            when, context, generated = row.split(",")
            call = Call(_moment(when), int(context), int(generated), (number,), block=max(1, int(context)))
        except ValueError as error:
            raise TraceError(f"line {number}: {_said(error)}") from None
        yield _checked(call, number)


def _moment(text: str) -> float:
    """Seconds of a timestamp such as 2023-11-16 18:15:46.6805900, with or without an offset."""
    whole, dot, rest = text.strip().partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    moment = datetime.fromisoformat(whole + rest[len(digits) :] if dot else whole)
    if moment.tzinfo is None:
        moment = datetime.fromisoformat(f"{whole}+00:00")
    return moment.timestamp() + (float(f"0.{digits}") if digits else 0.0)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is not a whole number")
    return value


def _checked(call: Call, line: int) -> Call:
    if not math.isfinite(call.at):
        raise TraceError(f"line {line}: the time is no number")
    if call.input_tokens < 0 or call.output_tokens < 0:
        raise TraceError(f"line {line}: a length below nothing")
    return call


def _said(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _from_zero(calls: list[Call]) -> list[Call]:
    start = calls[0].at
    return [replace(call, at=call.at - start) for call in calls]


# --- as much of it as is wanted ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scale:
    """How a trace is bent to what is measured. Prefixes stay as common as they were: blocks shrink with prompts."""

    speed: float = 1.0  # 2 sends twice as many requests a second
    input: float = 1.0
    output: float = 1.0
    max_input: int | None = None  # tokens; longer prompts are cut
    max_output: int | None = None
    seconds: float | None = None  # of the scaled trace
    requests: int | None = None

    def __post_init__(self) -> None:
        for name in ("speed", "input", "output", "max_input", "max_output", "seconds", "requests"):
            value: float | None = getattr(self, name)
            if value is not None and not (0 < value < math.inf):
                raise ValueError(f"{name} must be above 0, not {value:g}")

    def apply(self, calls: Sequence[Call]) -> list[Call]:
        """At least one token each way, at least the first request."""
        until = math.inf if self.seconds is None else self.seconds
        wanted = (self._one(call) for call in calls if call.at / self.speed < until)
        return list(islice(wanted, self.requests))

    def _one(self, call: Call) -> Call:
        return Call(
            call.at / self.speed,
            _scaled(call.input_tokens, self.input, self.max_input),
            _scaled(call.output_tokens, self.output, self.max_output),
            call.blocks,
            _scaled(call.block, self.input, None),
        )


def _scaled(tokens: int, by: float, most: int | None) -> int:
    scaled = max(1, round(tokens * by))
    return scaled if most is None else min(scaled, most)


def speed_for(rate: float, calls: Sequence[Call]) -> float:
    """What makes these calls come at that many a second on average."""
    if not rate > 0:
        raise ValueError(f"rate must be above 0, not {rate:g}")
    if not calls or not calls[-1].at:
        raise ValueError("a trace without length has no rate")
    return rate * calls[-1].at / len(calls)


def pieces(call: Call) -> Iterator[tuple[int, int]]:
    """(block, tokens of it) in order; together they are the prompt. A last block may be cut, or be long."""
    left = call.input_tokens
    blocks = call.blocks or (-1,)
    for place, block in enumerate(blocks):
        last = place == len(blocks) - 1
        taken = left if last else min(left, call.block)
        if taken:
            yield block, taken
        left -= taken


def shared_tokens(calls: Sequence[Call]) -> int:
    """Prompt tokens that an endless prefix cache of whole blocks would have served."""
    known: set[tuple[int, ...]] = set()
    shared = 0
    for call in calls:
        prefix: tuple[int, ...] = ()
        hit = True
        for block, tokens in pieces(call):
            prefix = (hash(prefix), block, tokens)
            hit = hit and prefix in known
            shared += tokens if hit else 0
            known.add(prefix)
    return shared
