"""The table, and the line that says what was wanted."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from loadtests.figures import FIGURES
from loadtests.report import cell, number, plot, print_reasons, print_table, write_json
from loadtests.stats import Spread
from loadtests.targets import GOALS, Absences, judge

VALUES = {
    ("throughput", "requests_per_second", "tollgate-settler-apart"): [9000.0, 10000.0, 9500.0],
    ("throughput", "requests_per_second", "vllm-router"): [12000.0, 12000.0, 12000.0],
    ("paced", "cpu_per_event", "tollgate"): [40.0, 42.0],
    ("paced", "cpu_per_event", "nginx"): [20.0, 20.0],
    ("alone", "p50", "tollgate"): [0.3, 0.5],
    ("alone", "p50", "direct"): [0.1, 0.3],
}


def test_cells_say_the_median_and_the_noise() -> None:
    assert cell(Spread.of([9000.0, 10000.0, 9500.0]), "") == "9,500 ±5%"
    assert cell(Spread.of([23.44]), "µs") == "23.4 µs"
    assert cell(Spread.of([]), "µs") == "–"
    assert (number(0.0271), number(123456.0)) == ("0.0271", "123,456")


def test_the_table_has_every_number_and_its_target_beside_it() -> None:
    out = io.StringIO()
    reasons = {"litellm": "no answer within 90 s [really]"}
    verdicts = [judge(goal, VALUES, Absences(reasons), cores=2) for goal in GOALS]
    console = Console(file=out, width=200)
    print_table(console, FIGURES, ["tollgate", "vllm-router"], VALUES, verdicts)
    print_reasons(console, FIGURES, verdicts, reasons)
    text = out.getvalue()
    for figure in FIGURES:
        for one in figure.numbers:
            assert f"{figure.title}: {one.title}" in text
    assert "tollgate-settler-apart ≥ 0.75 × vllm-router (goal 1): 0.792 ±5% met" in " ".join(
        text.replace("│", "").split()
    )
    assert "≤ 1.6 × nginx: 2.05 ±2% missed" in text
    assert "≤ 0.25 ms over direct: 0.2 ms ±0% met" in text
    assert "≤ 250 MB: not measured" in text
    assert "litellm: no answer within 90 s [really]" in text
    assert "32 connections, ≥ 60 × litellm: not measured: litellm: no answer within 90 s [really]" in text
    assert "tollgate-2 ≥ 1.8 × tollgate: not measured: needs 4 cores, this machine has 2" in text


def test_results_are_json(tmp_path: Path) -> None:
    write_json(tmp_path / "r.json", {"runs": [{"path": Path("x")}]})
    assert json.loads((tmp_path / "r.json").read_text()) == {"runs": [{"path": "x"}]}


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert plot(tmp_path / "r.png", FIGURES, ["tollgate", "vllm-router"], VALUES) is None
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
