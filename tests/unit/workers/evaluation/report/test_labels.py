from __future__ import annotations

import itertools

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workers.evaluation.report.labels import Box, fitted, place, spread, text_width

AREA = Box(50, 20, 490, 240)
MARKS = st.lists(st.tuples(st.floats(60, 480), st.floats(30, 230)), max_size=9)


@given(MARKS, st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_label_covers_another_or_a_mark(marks: list[tuple[float, float]], data: st.DataObject) -> None:
    wide = st.tuples(st.floats(20, 120), st.just(15.0))
    sizes = data.draw(st.lists(wide, min_size=len(marks), max_size=len(marks)))

    boxes = place(marks, sizes, AREA, 7)

    assert all(box.within(AREA) for box in boxes)
    assert not any(one.covers(other) for one, other in itertools.combinations(boxes, 2))
    assert not any(box.covers(Box(x - 7, y - 7, x + 7, y + 7)) for box in boxes for x, y in marks)


def test_a_label_keeps_clear_of_a_line_where_it_can() -> None:
    line = Box(100, 98, 300, 102)

    (box,) = place([(100, 100)], [(60, 15)], AREA, 7, [line])

    assert not box.covers(line)


@given(st.lists(st.floats(0, 200), max_size=12))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_places_spread_apart_in_their_order_within_bounds(places: list[float]) -> None:
    moved = spread(places, 15, 0, 200)

    order = sorted(range(len(places)), key=lambda one: places[one])
    gap = min(15, 200 / max(1, len(places) - 1))
    for one, other in itertools.pairwise(order):
        assert moved[other] - moved[one] >= gap - 1e-6
    assert all(-1e-6 <= one <= 200 + 1e-6 for one in moved)


def test_places_that_are_the_same_spread_to_both_sides() -> None:
    assert spread([50, 50, 50], 10, 0, 100) == [40, 50, 60]
    assert spread([2, 2], 10, 0, 100) == [0, 10]


def test_places_with_room_stay() -> None:
    assert spread([10, 50, 90], 15, 0, 100) == [10, 50, 90]


@given(st.text(max_size=60), st.floats(10, 300))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_cut_text_fits_and_shows_its_ends(text: str, room: float) -> None:
    shown = fitted(text, 12, room)

    assert text_width(shown, 12) <= max(room, text_width("…", 12))
    head, _, tail = shown.partition("…") if shown != text else (text, "", "")
    assert text.startswith(head)
    assert text.endswith(tail)


def test_names_that_differ_at_their_ends_still_differ() -> None:
    assert fitted("organisation/model@w4a16-gptq", 12, 120) != fitted("organisation/model@w4a16-awq", 12, 120)
