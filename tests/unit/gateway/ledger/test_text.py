"""Text that every database takes."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.text import REPLACEMENT, keepable


@given(text=st.text(alphabet=st.characters(exclude_categories=())))
def test_everything_else_stays_as_it_is(text):
    kept = keepable(text)
    assert len(kept) == len(text)
    assert orjson.loads(orjson.dumps(kept)) == kept
    for before, after in zip(text, kept, strict=True):
        assert after == (REPLACEMENT if before == "\x00" or "\ud800" <= before <= "\udfff" else before)
