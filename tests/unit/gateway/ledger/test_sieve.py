"""Finding the bad rows: all good ones are added once, whatever stands between them."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.sieve import sift


@given(rows=st.lists(st.booleans(), max_size=200))
def test_the_good_ones_are_added_once_and_the_bad_ones_told(rows):
    numbered = list(enumerate(rows))
    added = []
    calls = 0

    def add(some):
        nonlocal calls
        calls += 1
        if not all(good for _, good in some):
            raise ValueError("bad")
        added.extend(some)
        return len(some)

    count, refused = sift(numbered, add, (ValueError,))
    assert added == [row for row in numbered if row[1]]
    assert count == len(added)
    assert [row for row, _ in refused] == [row for row in numbered if not row[1]]
    assert {why for _, why in refused} <= {"ValueError: bad"}
    assert calls <= 1 + 2 * len(refused) * max(1, len(rows).bit_length())
