"""An amount shared out whole, in proportion and within bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.share import Room, share

rooms = st.lists(st.builds(Room, st.integers(0, 10**9), st.integers(-(10**6), 0), st.integers(0, 10**6)), max_size=30)


@given(st.integers(-(10**8), 10**8), rooms)
def test_it_gives_all_there_is_room_for_and_no_more(amount: int, places: list[Room]) -> None:
    given_ = share(amount, places)
    able = [room for room in places if room.weight]
    most = sum(room.most for room in able)
    least = sum(room.least for room in able)
    assert sum(given_) == max(least, min(most, amount))
    for part, room in zip(given_, places, strict=True):
        assert room.least <= part <= room.most
        assert part == 0 or (room.weight > 0 and (part > 0) == (amount > 0))


@given(st.integers(0, 10**8), st.lists(st.integers(1, 10**6), min_size=1, max_size=30))
def test_with_room_enough_it_is_in_proportion_to_within_one(amount: int, weights: list[int]) -> None:
    given_ = share(amount, [Room(weight, 0, amount) for weight in weights])
    for part, weight in zip(given_, weights, strict=True):
        assert abs(part * sum(weights) - amount * weight) < sum(weights)


def test_the_largest_remainders_have_what_is_left_and_the_first_of_equals() -> None:
    assert share(10, [Room(1, 0, 99), Room(1, 0, 99), Room(1, 0, 99)]) == [4, 3, 3]
    assert share(-10, [Room(1, -99, 0), Room(2, -99, 0)]) == [-3, -7]


def test_who_is_full_leaves_the_rest_to_the_others() -> None:
    assert share(100, [Room(8, 0, 10), Room(1, 0, 99), Room(1, 0, 99)]) == [10, 45, 45]
    assert share(100, [Room(8, 0, 10), Room(1, 0, 20)]) == [10, 20]
    assert share(5, []) == []
