"""What every written model shares: strictness, and the units and names of the YAML as types.

Each field carries a description and an example. They make the remedy of an error message, the table in the README and
the JSON schema, so there is one place to say what a key means.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from gateway.config.units import UnitError, parse_duration, parse_moment, parse_percent, parse_span

MAX_COUNT = 10**9


class Written(BaseModel):
    """A mapping of the YAML: nothing is converted in silence and no unknown key is let through."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def refuse(wrong: str, remedy: str) -> PydanticCustomError:
    """A validator's way to say both halves of a message."""
    return PydanticCustomError("refused", "{wrong}: {remedy}", {"wrong": wrong, "remedy": remedy})


def _unit(parse: Callable[[object], float]) -> BeforeValidator:
    def convert(value: object) -> float:
        try:
            return parse(value)
        except UnitError as error:
            raise refuse(error.wrong, error.remedy) from None

    return BeforeValidator(convert)


NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
NAME_REMEDY = "use at most {} of letters, digits, `.`, `_` and `-`{}, beginning with a letter or digit"


def matching(pattern: str, wrong: str, remedy: str) -> Any:
    """Text that fits a pattern as a whole; what does not is refused in these words."""
    compiled = re.compile(pattern, re.ASCII)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise refuse(f"`{text[:80]}` {wrong}", remedy)
        return text

    return AfterValidator(check)


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


Duration = Annotated[
    float,
    _unit(parse_duration),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?(ms|s|m|h)$"}),
]
Span = Annotated[
    float,
    _unit(lambda written: parse_span(str(written))),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(s|m|h|d)$"}),
]
Percent = Annotated[
    float,
    _unit(parse_percent),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?%$"}),
]
Moment = Annotated[
    float,
    _unit(parse_moment),
    WithJsonSchema({"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:\d{2})?)?$"}),
]
Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
Text = Annotated[str, Field(min_length=1, max_length=1000)]

# A name goes into headers, metric labels and log lines, so it is short and needs no quoting anywhere.
Name = Annotated[
    str,
    matching(NAME, "cannot be a name", NAME_REMEDY.format(64, "")),
]
ModelName = Annotated[
    str,
    matching(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}", "cannot name a model", NAME_REMEDY.format(128, " and `/`")),
]
# What a client may ask for: a model, model@version, model:adapter, or any name it is used to.
Asked = Annotated[
    str,
    matching(
        r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,255}",
        "cannot be asked for",
        NAME_REMEDY.format(256, ", `/`, `:` and `@`"),
    ),
]
OneOrMany = Annotated[
    list[Asked],
    BeforeValidator(_one_or_many),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
Digest = Annotated[
    str,
    matching(
        r"[0-9a-f]{64}",
        "is not a SHA-256 digest",
        "write its 64 lower-case hex digits; `tollgate keys create TENANT` makes a key and prints its line",
    ),
    WithJsonSchema({"type": "string", "pattern": "^[0-9a-f]{64}$"}),
]


class Limits(Written):
    rpm: Count | None = Field(default=None, description="Requests per minute; left out: no limit", examples=[600])
    tpm: Count | None = Field(default=None, description="Tokens per minute; left out: no limit", examples=[200000])
    concurrency: Count | None = Field(default=None, description="Requests at once; left out: no limit", examples=[32])
