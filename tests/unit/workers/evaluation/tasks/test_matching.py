from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.errors import WrongUsage
from workers.evaluation.tasks import patterns
from workers.evaluation.tasks.matching import Match, NoJson, json_in, matches, same_json
from workers.evaluation.tasks.task import CannotGrade

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("match", "expected", "text", "right"),
    [
        ("exact", "Paris", " Paris\n", True),
        ("exact", "Paris", "paris", False),
        ("exact", "Paris", "Paris.", False),
        ("contains", "Paris", "It is Paris.", True),
        ("contains", "Paris", "It is paris.", False),
        ("regex", r"(?i)\bparis\b", "It is Paris.", True),
        ("regex", r"^Paris", "It is Paris.", False),
        ("regex", "☃", "a ☃ \ud800 here", True),
        ("json", '{"a": [1, 2]}', '{"a":[1.0,2]}', True),
        ("json", '{"a": 1, "b": 2}', '```json\n{"b": 2, "a": 1}\n```', True),
        ("json", '{"a": 1}', '{"a": true}', False),
        ("json", '{"a": 1}', '{"a": 1, "b": 2}', False),
        ("json", "[1]", "[1, 1]", False),
        ("json", "null", "no JSON at all", False),
        ("json", "1", "NaN", False),
        ("json", "1", "[" * 100_000, False),
    ],
)
def test_matches(match: Match, expected: str, text: str, right: bool) -> None:
    assert matches(match, expected, text) == right


@settings(deadline=None)
@given(JSON, JSON)
def test_json_values_are_the_same_where_their_canonical_texts_are(one: object, other: object) -> None:
    def canonical(value: object) -> str:
        as_read = json.loads(json.dumps(value), parse_int=float)
        return json.dumps(as_read, sort_keys=True).replace("-0.0", "0.0")

    assert same_json(one, one)
    assert same_json(one, other) == (canonical(one) == canonical(other))


@settings(deadline=None)
@given(JSON)
def test_json_is_found_alone_and_in_a_fence(value: object) -> None:
    assert same_json(json_in(f"  {json.dumps(value)}\n"), value)
    assert same_json(json_in(f"```json\n{json.dumps(value, indent=2)}\n```"), value)
    assert json_in(f"Here you are: {json.dumps([value])}") is NoJson


def test_a_pattern_that_never_ends_is_ended() -> None:
    with pytest.raises(CannotGrade, match="without repetitions inside repetitions"):
        matches("regex", r"(a+)+$", "a" * 60 + "!")


def test_a_pattern_that_needs_the_memory_of_the_machine_is_ended() -> None:
    with pytest.raises(CannotGrade):
        matches("regex", r"(?:(?:.*)*)*x", "ab" * 5_000_000)


@pytest.mark.parametrize("pattern", ["(", "[z-a]", "a" * 3000])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(WrongUsage):
        patterns.check(pattern)
