from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.workers.evaluation.stand_in import chat_answer, stand_in
from workers.errors import WorkerToolError
from workers.evaluation.client import Client, Endpoint
from workers.evaluation.schemas import (
    FORMS,
    NoValidator,
    SchemaAnswers,
    ask_schemas,
    compare_schemas,
    fault_in,
    measure_schemas,
    questions,
)

VALID: Mapping[str, object] = {
    "person": {"name": "Ada", "age": 36},
    "ticket": {"category": "refund", "priority": "low", "open": True},
    "order": {"customer": {"name": "Ada", "city": "Oslo"}, "items": [{"product": "lamp", "quantity": 2}]},
    "scores": [1, 2, 3],
    "reading": {"city": "Oslo", "celsius": -3.5, "wind": {"direction": "N", "speed": 4}, "note": None},
    "labels": ["python"],
}
BY_NAME = {form.name: form for form in FORMS}


def form_of(body: Mapping[str, Any]) -> str | None:
    """The form that is asked for, where the engine is to guide."""
    return body["response_format"]["json_schema"]["name"] if "response_format" in body else None


def guiding(path: str, body: Mapping[str, Any]) -> tuple[int, object]:
    """Guides well, and says no JSON when it is only told to."""
    form = form_of(body)
    return 200, chat_answer(json.dumps(VALID[form]) if form else "I only know Python.")


def test_both_modes_are_counted() -> None:
    def sloppy(path: str, body: Mapping[str, Any]) -> tuple[int, object]:
        form = form_of(body)
        if form == "person":
            return 200, chat_answer('{"name": "Ada", "age": 1', finish="length")
        if form == "ticket":
            return 500, {"error": "grammar"}
        return guiding(path, body)

    with stand_in(guiding) as reference, stand_in(sloppy) as candidate:
        guided, prompted = asyncio.run(measure_schemas(reference.endpoint, candidate.endpoint, seed=0, count=12))

    assert (guided.mode, guided.asked, guided.reference_valid, guided.candidate_valid) == ("guided", 12, 12, 8)
    assert (prompted.mode, prompted.asked, prompted.reference_valid, prompted.candidate_valid) == ("prompted", 12, 0, 0)
    assert len(reference.asked) == 24
    asked = reference.asked[0][1]
    assert (asked["temperature"], asked["seed"]) == (0, 0)


def answers_of(respond: Any, count: int = 6, seed: int = 0) -> SchemaAnswers:
    async def scene(endpoint: Endpoint) -> SchemaAnswers:
        async with Client(endpoint) as client:
            return await ask_schemas(client, seed, count)

    with stand_in(respond) as server:
        return asyncio.run(scene(server.endpoint))


def test_an_answer_that_is_cut_off_says_so() -> None:
    cut = answers_of(lambda path, body: (200, chat_answer('{"a', finish="length")))
    assert {answer.fault for answer in cut.answers} == {"cut off after 256 tokens: no JSON"}
    assert SchemaAnswers.model_validate_json(cut.model_dump_json()) == cut


def test_a_mode_that_the_reference_refuses_is_not_measured() -> None:
    def unable(path: str, body: Mapping[str, Any]) -> tuple[int, object]:
        return (400, {"error": "response_format is not supported"}) if form_of(body) else guiding(path, body)

    able = answers_of(guiding)
    assert [one.mode for one in compare_schemas(answers_of(unable), able)] == ["prompted"]
    assert compare_schemas(able, answers_of(unable))[0].candidate_valid == 0


def test_only_the_same_questions_can_be_compared() -> None:
    with pytest.raises(WorkerToolError, match="with one seed"):
        compare_schemas(answers_of(guiding), answers_of(guiding, seed=1))


@settings(deadline=None)
@given(st.integers(0, 100), st.integers(0, 30))
def test_questions_are_the_seeds(seed: int, count: int) -> None:
    assert questions(seed, count) == questions(seed, count)
    assert len(questions(seed, count)) == count
    assert all("{" not in request for _, request in questions(seed, count))


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_every_form_takes_what_is_valid_and_nothing_else(form: Any) -> None:
    assert fault_in(json.dumps(VALID[form.name]), form.schema) is None
    for other, value in VALID.items():
        if other != form.name:
            assert fault_in(json.dumps(value), form.schema)


@pytest.mark.parametrize(
    ("form", "text", "fault"),
    [
        ("person", '{"name": "Ada", "age": 121}', "$.age: 121 is greater than the maximum of 120"),
        ("person", '{"name": "Ada", "age": 1, "x": 0}', "Additional properties"),
        ("person", '{"name": "Ada"}', "'age' is a required property"),
        ("person", '{"name": "Ada", "age": true}', "is not of type 'integer'"),
        ("order", '{"customer": {"name": "A", "city": "B"}, "items": []}', "$.items"),
        ("reading", json.dumps(VALID["reading"]).replace("-3.5", "NaN"), "no JSON"),
        ("labels", '["basic"]', "$[0]: 'basic' is not one of"),
        ("labels", 'Here: ["sql"]', "no JSON"),
    ],
)
def test_what_is_wrong_is_said(form: str, text: str, fault: str) -> None:
    assert fault in (fault_in(text, BY_NAME[form].schema) or "")


def test_without_the_validator_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)

    async def scene() -> None:
        async with Client(Endpoint("http://127.0.0.1:9", "x")) as client:
            await ask_schemas(client, 0, 6)

    with pytest.raises(NoValidator, match=r"tollgate\[evaluate\]"):
        asyncio.run(scene())
