"""The table, and the line that says what was wanted."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from loadtests.figures import FIGURES
from loadtests.report import cell, number, plot, print_table, write_json
from loadtests.targets import GOALS, judge

VALUES = {
    ("throughput", "requests_per_second", "tollgate"): [9000.0, 10000.0, 9500.0],
    ("throughput", "requests_per_second", "vllm-router"): [12000.0, 12000.0, 12000.0],
    ("paced", "cpu_per_event", "tollgate"): [40.0, 41.0],
}


def test_cells_say_the_median_and_the_noise() -> None:
    assert cell([9000.0, 10000.0, 9500.0], "") == "9,500 ±5%"
    assert cell([23.44], "µs") == "23.4 µs"
    assert cell([], "µs") == "–"
    assert (number(0.0271), number(123456.0)) == ("0.0271", "123,456")


def test_the_table_has_every_number_and_its_target_beside_it() -> None:
    out = io.StringIO()
    verdicts = [judge(goal, VALUES) for goal in GOALS]
    reasons = {"litellm": "no answer within 90 s [really]"}
    print_table(Console(file=out, width=200), FIGURES, ["tollgate", "vllm-router"], VALUES, verdicts, reasons)
    text = out.getvalue()
    for figure in FIGURES:
        for one in figure.numbers:
            assert f"{figure.title}: {one.title}" in text
    assert "≥ 8,000: 9,500 met" in text
    assert "≥ 0.5 × vllm-router: 0.792 met" in text
    assert "≤ 30: 40.5 missed" in text
    assert "≤ 60: not measured" in text
    assert "litellm: no answer within 90 s [really]" in text


def test_results_are_json(tmp_path: Path) -> None:
    write_json(tmp_path / "r.json", {"runs": [{"path": Path("x")}]})
    assert json.loads((tmp_path / "r.json").read_text()) == {"runs": [{"path": "x"}]}


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert plot(tmp_path / "r.png", FIGURES, ["tollgate", "vllm-router"], VALUES) is None
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
