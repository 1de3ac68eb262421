"""Whether answers keep to a JSON schema: guided, where the engine lets through nothing else, and prompted, where the
model is only told.

A guided answer can still be invalid: cut off by its token limit, or where the engine's grammar is laxer than the
schema. Small models fill the limit with the white space that JSON allows, so start the engine with GUIDED_ARGUMENTS.
Everything here is bounded, strings, arrays and numbers, because what is not some models never end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, cast, get_args

from pydantic import BaseModel, ConfigDict

from workers.errors import WorkerToolError
from workers.evaluation import answers, result
from workers.evaluation.client import Client, Endpoint, Refused
from workers.evaluation.tasks.matching import NoJson, json_in

Mode = Literal["guided", "prompted"]

GUIDED_ARGUMENTS = ('--structured-outputs-config={"backend": "xgrammar", "disable_any_whitespace": true}',)
MOST_TOKENS = 256
LONGEST_FAULT = 200
PROMPTED = "Answer with nothing but JSON that is valid under this JSON schema:\n{schema}"


class NoValidator(WorkerToolError):
    """The library that validates is not installed."""


@dataclass(frozen=True, slots=True)
class Form:
    """One schema, and what to ask for it; `{name}`, `{city}` and `{number}` are drawn anew for each question."""

    name: str
    schema: Mapping[str, Any]
    request: str


def _object(**properties: object) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _text(most: int = 24) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": most}


def _integer(least: int, most: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": least, "maximum": most}


def _number(least: int, most: int) -> dict[str, Any]:
    """Its bounds also bound its digits, in the grammar of xgrammar."""
    return {"type": "number", "minimum": least, "maximum": most}


def _list(items: object, least: int, most: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


FORMS = (
    Form("person", _object(name=_text(), age=_integer(0, 120)), "Describe {name}, who is {number} years old."),
    Form(
        "ticket",
        _object(
            category={"enum": ["delivery", "damaged", "refund", "billing"]},
            priority={"enum": ["low", "normal", "high"]},
            open={"type": "boolean"},
        ),
        "Sort this ticket of {name}: order {number} to {city} has not arrived.",
    ),
    Form(
        "order",
        _object(
            customer=_object(name=_text(), city=_text()),
            items=_list(_object(product=_text(), quantity=_integer(1, 99)), 1, 3),
        ),
        "Write down the order of {name} in {city}: {number} lamps and one chair.",
    ),
    Form("scores", _list(_integer(0, 100), 2, 5), "Give the scores of {name} in {city}, at least two."),
    Form(
        "reading",
        _object(
            city=_text(),
            celsius=_number(-60, 60),
            wind=_object(direction={"enum": ["N", "E", "S", "W"]}, speed=_number(0, 200)),
            note={"anyOf": [_text(), {"type": "null"}]},
        ),
        "The weather in {city}: {number} degrees, wind from the north.",
    ),
    Form("labels", _list({"enum": ["python", "sql", "math", "other"]}, 1, 3), "Which labels fit a text about {city}?"),
)
NAMES = ("Ada", "Bela", "Carla", "Dmitri", "Emeka", "Farah", "Goro", "Hanna")
CITIES = ("Paris", "Oslo", "Lima", "Tokyo", "Cairo", "Boston", "Prague", "Delhi")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SchemaAnswer(_Part):
    """One answer; `fault` says why it is not valid."""

    mode: Mode
    form: str
    text: str
    fault: str | None
    refused: bool = False


class SchemaAnswers(_Part):
    """One model's answers in both modes; JSON, so that a reference has to be asked only once."""

    seed: int
    count: int
    answers: tuple[SchemaAnswer, ...]


def questions(seed: int, count: int) -> list[tuple[Form, str]]:
    """`count` questions, the forms in turn; the same for the same seed. Pure."""
    random = Random(f"schemas {seed}")
    return [
        (
            form,
            form.request.format(name=random.choice(NAMES), city=random.choice(CITIES), number=random.randint(2, 90)),
        )
        for form in (FORMS[number % len(FORMS)] for number in range(count))
    ]


async def ask_schemas(
    client: Client, seed: int, count: int, answered: Callable[[], object] = lambda: None
) -> SchemaAnswers:
    """`count` questions in each mode; `answered` is called after each. Raises NoAnswer, and NoValidator."""
    fault_in("", {})  # say at once that the validator is missing
    asked = [(mode, form, request) for mode in get_args(Mode) for form, request in questions(seed, count)]

    async def one(item: tuple[Mode, Form, str]) -> SchemaAnswer:
        mode, form, request = item
        try:
            body = await client.ask("/v1/chat/completions", **fields(mode, form, request, seed))
            written = answers.chat(body)
        except (Refused, answers.NotAnAnswer) as error:
            return SchemaAnswer(mode=mode, form=form.name, text="", fault=str(error), refused=True)
        finally:
            answered()
        fault = fault_in(written.text, form.schema)
        if fault and written.finish == "length":
            fault = f"cut off after {MOST_TOKENS} tokens: {fault}"
        return SchemaAnswer(mode=mode, form=form.name, text=written.text, fault=fault)

    return SchemaAnswers(seed=seed, count=count, answers=tuple(await client.each(asked, one)))


def compare_schemas(reference: SchemaAnswers, candidate: SchemaAnswers) -> tuple[result.SchemaAdherence, ...]:
    """How many answers of each are valid, by mode. A mode is left out where the reference's endpoint refused all of it:
    not every endpoint can guide."""
    if (reference.seed, reference.count) != (candidate.seed, candidate.count):
        raise WorkerToolError("the reference and the candidate were asked for different JSON; ask both with one seed")
    found: list[result.SchemaAdherence] = []
    for mode in get_args(Mode):
        theirs = [answer for answer in reference.answers if answer.mode == mode]
        ours = [answer for answer in candidate.answers if answer.mode == mode]
        if not all(answer.refused for answer in theirs):
            found.append(
                result.SchemaAdherence(
                    mode=mode,
                    asked=len(theirs),
                    reference_valid=sum(answer.fault is None for answer in theirs),
                    candidate_valid=sum(answer.fault is None for answer in ours),
                )
            )
    return tuple(found)


async def measure_schemas(
    reference: Endpoint, candidate: Endpoint, seed: int, count: int
) -> tuple[result.SchemaAdherence, ...]:
    """Both asked, one after the other, where both endpoints are up at the same time."""
    async with Client(reference) as client:
        expected = await ask_schemas(client, seed, count)
    async with Client(candidate) as client:
        return compare_schemas(expected, await ask_schemas(client, seed, count))


def fields(mode: Mode, form: Form, request: str, seed: int) -> dict[str, object]:
    """The chat request of one question, but for the model's name. Pure."""
    user = {"role": "user", "content": request}
    plain: dict[str, object] = {"max_tokens": MOST_TOKENS, "temperature": 0, "seed": seed}
    if mode == "guided":
        schema = {"name": form.name, "schema": form.schema, "strict": True}
        return plain | {"messages": [user], "response_format": {"type": "json_schema", "json_schema": schema}}
    told = PROMPTED.format(schema=json.dumps(form.schema))
    return plain | {"messages": [{"role": "system", "content": told}, user]}


def fault_in(text: str, schema: Mapping[str, Any]) -> str | None:
    """Why `text` is not valid under `schema` (draft 2020-12); None where it is. Raises NoValidator."""
    try:
        from jsonschema import Draft202012Validator, exceptions
    except ImportError:
        raise NoValidator(
            "JSON schemas need jsonschema, which is not installed: pip install 'tollgate[evaluate]'"
        ) from None
    value = json_in(text)
    if value is NoJson:
        return "no JSON"
    # Its annotations name types that it does not export.
    validator, errors = cast("Any", Draft202012Validator(schema)), cast("Any", exceptions)
    error = errors.best_match(validator.iter_errors(value))
    return None if error is None else f"{error.json_path}: {error.message}"[:LONGEST_FAULT]
