"""Text that every database takes."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.text import REPLACEMENT, inert, keepable


@given(text=st.text(alphabet=st.characters(exclude_categories=())))
def test_everything_else_stays_as_it_is(text):
    kept = keepable(text)
    assert len(kept) == len(text)
    assert orjson.loads(orjson.dumps(kept)) == kept
    for before, after in zip(text, kept, strict=True):
        assert after == (REPLACEMENT if before == "\x00" or "\ud800" <= before <= "\udfff" else before)


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "-1+2", "-cmd|' /C calc'!A0", "-", "-1 "]
)
def test_what_a_spreadsheet_would_run_is_text(text):
    assert inert(text) == "'" + text


@pytest.mark.parametrize("text", ["", "a=1", "-1", "-0.25", "1+1", "'=1", "{}", "ä", " =1"])
def test_what_it_would_not_run_stays_as_it_is(text):
    assert inert(text) == text
