"""A worker's time from what was seen of it."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway.attribution.timeline import Piece, Sight, crowding, pieces

GAP = 20_000


def sight(at: int, hourly: int = 5, **fields: object) -> Sight:
    return Sight(at, hourly, "chat", "int4", True, False)._replace(**fields)


def test_it_lies_between_the_first_sight_and_the_last():
    seen = [sight(1_000 * at) for at in (70, 75, 80, 85)]
    assert pieces(seen, 60_000, 120_000, GAP) == [Piece(70_000, 85_000, 5, "chat", "int4", True)]
    assert pieces(seen, 72_000, 80_500, GAP) == [Piece(72_000, 80_500, 5, "chat", "int4", True)]
    assert pieces(seen[:1], 60_000, 120_000, GAP) == []


def test_another_rate_or_version_begins_another_piece():
    seen = [sight(0), sight(5_000, 7), sight(10_000, 7, version="fp8"), sight(15_000)]
    assert [piece[:3] for piece in pieces(seen, 0, 60_000, GAP)] == [
        (0, 5_000, 5), (5_000, 10_000, 7), (10_000, 15_000, 7),
    ]  # fmt: skip


def test_a_gap_is_unobserved():
    seen = [sight(0), sight(20_000), sight(40_001), sight(45_000)]
    assert [(piece.start, piece.observed) for piece in pieces(seen, 0, 60_000, GAP)] == [
        (0, True), (20_000, False), (40_001, True),
    ]  # fmt: skip


@given(
    st.lists(st.tuples(st.integers(0, 200_000), st.sampled_from([5, 7])), max_size=30),
    st.integers(0, 100_000),
    st.integers(1, 100_000),
)
def test_pieces_follow_each_other_without_holes(seen, start, length):
    sights = [sight(at, hourly) for at, hourly in sorted(seen)]
    found = pieces(sights, start, start + length, GAP)
    assert all(before.end == after.start for before, after in itertools.pairwise(found))
    if sights:
        covered = max(0, min(start + length, sights[-1].at) - max(start, sights[0].at))
        assert sum(piece.end - piece.start for piece in found) == covered


def test_crowding_is_a_part_of_the_busy_readings():
    seen = [sight(0, crowded=True), sight(5_000), sight(10_000, in_use=False), sight(60_000, crowded=True)]
    assert crowding(seen, Piece(0, 60_000, 5, "chat", "int4", True)) == 0.5
    assert crowding(seen, Piece(6_000, 60_000, 5, "chat", "int4", True)) == 0.0
