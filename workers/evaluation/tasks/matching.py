"""How an answer is held against the right ones."""

from __future__ import annotations

import json
import re
from typing import Any, Literal, cast

from workers.evaluation.tasks import patterns

Match = Literal["exact", "contains", "regex", "json"]

FENCE = re.compile(r"\A```[a-zA-Z]*\n(.*)\n```\Z", re.DOTALL)


def matches(match: Match, expected: str, text: str) -> bool:
    """Whether `text` is right, white space around it aside. Raises CannotGrade for a pattern that takes too long.

    exact: the same; contains: has it somewhere; regex: the pattern is found somewhere; json: the same JSON value,
    whatever the order of keys, also in a Markdown fence.
    """
    if match == "exact":
        return text.strip() == expected.strip()
    if match == "contains":
        return expected in text
    if match == "regex":
        return patterns.found(expected, text)
    return same_json(json.loads(expected), json_in(text))


def json_in(text: str) -> object:
    """The JSON value that `text` is, or has in a Markdown fence around all of it; `NoJson` where it is none."""
    text = text.strip()
    if fenced := FENCE.match(text):
        text = fenced[1]
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return NoJson


class NoJson:
    """Stands for a text that is no JSON."""


def same_json(one: object, other: object) -> bool:
    """Equality of JSON values: 1 is 1.0, but true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        ones, others = cast("dict[str, Any]", one), cast("dict[str, Any]", other)
        return ones.keys() == others.keys() and all(same_json(ones[key], others[key]) for key in ones)
    if isinstance(one, list) and isinstance(other, list):
        ones, others = cast("list[Any]", one), cast("list[Any]", other)
        return len(ones) == len(others) and all(map(same_json, ones, others))
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
