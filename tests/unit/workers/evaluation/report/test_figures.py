"""What is drawn stays within the picture, is well formed, and survives any number."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.evaluations import layers
from workers.evaluation.report.document import SLIM, WIDE
from workers.evaluation.report.figures.canvas import SIZE, SMALL, Drawing
from workers.evaluation.report.figures.heat import heat, mapped
from workers.evaluation.report.figures.lines import Series, lines
from workers.evaluation.report.figures.rows import Mark, Row, bars, intervals, lost_and_gained
from workers.evaluation.report.figures.scatter import Point, on_front, scatter
from workers.evaluation.report.labels import text_width
from workers.evaluation.report.numbers import number
from workers.evaluation.result import Layer

NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.floats(0, 100)
NAMES = st.sampled_from(["int8", "w4a16-gptq", "a very long name of a version that nobody would give <it>", "量化"])
WIDTHS = (WIDE, SLIM)
SVG = "{http://www.w3.org/2000/svg}"


def texts(drawing: Drawing) -> list[ElementTree.Element]:
    """All texts of a drawing, which is well formed and has each within its edges."""
    root = ElementTree.fromstring(drawing.standalone())
    found = list(root.iter(f"{SVG}text"))
    for one in found:
        size = SMALL if "small" in one.get("class", "") else SIZE
        wide = text_width(one.text or "", size)
        x, y = float(one.get("x", "nan")), float(one.get("y", "nan"))
        left = x - {"end": wide, "middle": wide / 2}.get(one.get("text-anchor", "start"), 0.0)
        assert -1 <= left, one.text
        assert left + wide <= drawing.width + wide * 0.08 + 1, one.text
        assert 0 <= y <= drawing.height, one.text
    for element in root.iter():
        assert not any("nan" in value or "inf" in value for key, value in element.items() if key != "aria-label")
    return found


@pytest.mark.parametrize("width", WIDTHS)
@given(rows=st.lists(st.tuples(NAMES, NUMBERS, NUMBERS, NUMBERS), max_size=9), data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_rows_survive_any_number(
    width: float, rows: list[tuple[str, float, float, float]], data: st.DataObject
) -> None:
    drawn = [
        Row(name, f"c{place % 8}", value, number(value), low, high, bound=low, floor=high)
        for place, (name, value, low, high) in enumerate(rows)
    ]
    axis = data.draw(st.sampled_from(["around", "log", "closeness"]))

    texts(
        intervals(drawn, width, "alt", "caption", number, axis=axis, marks=[Mark("q8_0", 0.0014), Mark("q6_K", 0.0015)])
    )
    texts(bars(drawn, width, "alt", "caption", number))


@pytest.mark.parametrize("width", WIDTHS)
@given(
    series=st.lists(st.tuples(NAMES, st.dictionaries(st.sampled_from([1, 4, 8, 16]), NUMBERS)), max_size=9),
    axis=st.sampled_from(["zero", "around", "log"]),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_lines_survive_any_number(width: float, series: list[tuple[str, dict[int, float]]], axis: str) -> None:
    drawn = [Series(name, f"c{place % 8}", tuple(points.items())) for place, (name, points) in enumerate(series)]

    texts(lines(drawn, width, "alt", "caption", number, axis=axis, marks=[Mark("no loss", 1.0)]))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("more_is_better", [True, False])
@given(points=st.lists(st.tuples(NAMES, NUMBERS, NUMBERS.map(abs)), max_size=9))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_points_survive_any_number(width: float, more_is_better: bool, points: list[tuple[str, float, float]]) -> None:
    drawn = [Point(name, f"c{place % 8}", x, loss, place % 2 == 0) for place, (name, x, loss) in enumerate(points)]

    drawing = scatter(
        drawn, width, "alt", x_caption="size", y_caption="KLD", x_form=number, more_is_better=more_is_better
    )

    texts(drawing)


def test_the_front_is_of_the_small_and_close_or_of_the_fast_and_close() -> None:
    reference, int8, int4, bad = (
        Point("reference", "ref", 9.0, 0.0, None),
        Point("int8", "c0", 4.8, 0.002, True),
        Point("int4", "c1", 2.9, 0.06, False),
        Point("bad", "c2", 5.0, 0.2, False),
    )
    points = [bad, int4, reference, int8]

    assert on_front(points, more_is_better=False) == (int4, int8, reference)
    assert on_front(points, more_is_better=True) == (reference,)


def test_what_was_lost_is_left_of_what_was_gained() -> None:
    row = Row("sql", "c0", None, "82 % → 80 %")

    found = texts(lost_and_gained([(row, 29, 14)], WIDE, "alt"))

    lost, gained = (float(one.get("x", "0")) for one in found if one.text in ("29", "14"))
    assert lost < WIDE / 2 < gained


def test_layers_are_mapped_by_block_and_kind() -> None:
    import random

    found = mapped(layers(3, ["model.layers.1.mlp.down_proj"], random.Random(1)))

    assert found.blocks == (0, 1, 2)
    assert found.kinds == ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert [layer.name for layer in found.others] == ["lm_head"]
    drawing = heat(found, WIDE, "alt", "c0")
    assert "block 2" in [one.text for one in texts(drawing)]
    assert drawing.body.count("ring") == 1


def test_a_map_survives_any_number() -> None:
    layers = [
        Layer(name=f"model.layers.{block}.mlp.{kind}", mean_kld=value, kept=False)
        for block, kind, value in [(0, "up_proj", math.nan), (0, "down_proj", math.inf), (1, "up_proj", 0.0)]
    ]

    texts(heat(mapped(layers), SLIM, "alt", "c0"))
