"""Array literals mean what was meant, to PostgreSQL itself."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.ledger.arrays import floats, floats_or_null, integers, texts

CHARACTERS = st.characters(exclude_categories=("Cs",), exclude_characters="\x00") | st.sampled_from('"\\{},')
VALUES = st.one_of(
    st.tuples(st.just("text"), st.lists(st.text(CHARACTERS, max_size=6) | st.sampled_from(["NULL", "", " ", "{}"]))),
    st.tuples(st.just("bigint"), st.lists(st.integers(-(2**63), 2**63 - 1))),
    st.tuples(st.just("double precision"), st.lists(st.none() | st.floats(allow_nan=False))),
)


@pytest.fixture(scope="module")
def connection(postgres):
    with postgres.connect() as connection:
        yield connection


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=VALUES)
def test_what_goes_in_comes_out(connection, drawn):
    kind, values = drawn
    literal = {"text": texts, "bigint": integers, "double precision": floats_or_null}[kind](values)
    assert connection.execute(f"SELECT %s::{kind}[]", (literal,)).fetchone() == (values,)


@pytest.mark.parametrize(
    ("write", "value"),
    [(integers, "1}"), (integers, 1.5), (integers, None), (floats, "x"), (floats, None), (texts, 1), (texts, None)],
)
def test_nothing_else_goes_in(write, value):
    with pytest.raises((TypeError, ValueError)):
        write([value])


def test_a_flag_is_a_number():
    assert integers([True, False]) == "{1,0}"
