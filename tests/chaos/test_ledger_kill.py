"""kill -9 at boundaries of the ledger, spread over all there are; `make crash` takes every one of them."""

import pytest

from loadtests.crash.grounds import opened, scratch_directory
from loadtests.crash.rounds import ACTS, Rounds
from loadtests.crash.story import expected, story

ROUNDS = 60  # of each


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.name)
def test_what_was_safe_is_in_the_ledger_once(act):
    with scratch_directory() as scratch, opened("sqlite", scratch) as ground:
        if act.name not in ground.acts:
            pytest.skip("not over this ledger")
        rounds = Rounds(act, ground, story(16, "w"), scratch)
        boundaries = rounds.count()
        step = max(1, len(boundaries.crossed) // ROUNDS)
        done = list(rounds.run(boundaries, range(1, len(boundaries.crossed) + 1, step)))
    assert [one for one in done if one.problems] == []
    assert sum(one.was_killed for one in done) > 0.9 * len(done) > 20


def test_the_referee_knows_what_was_said():
    """Of every beginning of the story: each request is in the books once, as its last word has it."""
    said = story(16, "w")
    for until in range(len(said) + 1):
        found = expected(said[:until])
        entries = [one for one in said[:until] if hasattr(one, "attempt")]
        assert found.rows.keys() == {one.attempt[:3] for one in entries}
        assert len(found.readings) == until - len(entries)
    assert {row[12 + 4] for row in found.rows.values()} >= {"ok", "cached", "aborted", "hedged", "broken", "crashed"}
