"""What is said of one measurement."""

from __future__ import annotations

import io
from argparse import Namespace
from array import array
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from loadtests.outcome import lines, plot, print_table, tell
from loadtests.run import Run

RUN = Run(
    2.0,
    1000,
    5000,
    Counter({"status 503": 3}),
    Counter({"prompt_tokens": 9000, "cached_tokens": 4000, "completion_tokens": 16_000}),
    starts=array("d", [n / 500 for n in range(1000)]),
    latencies=array("d", [n / 1000 for n in range(1000)]),
    gaps=array("d", [0.02] * 4000),
    cpu_seconds=0.5,
    rss_before=70_000_000,
    rss_after=90_000_000,
)


def test_the_table_has_percentiles_with_their_confidence_and_only_what_was_measured() -> None:
    out = io.StringIO()
    print_table(Console(file=out, width=140), RUN)
    said = out.getvalue()
    assert "500 (468–531)" in said
    assert "between events" in said
    assert "first byte" not in said


def test_counts_and_costs_are_said() -> None:
    assert lines(RUN) == [
        "1,000 requests in 2.0 s: 500.0 a second",
        "5,000 events: 2,500 a second",
        "9,000 prompt tokens, 4,000 of them cached; 16,000 generated, 8,000 a second",
        "failed: 3 × status 503",
        "CPU of the process under test: 0.50 s, 500 µs a request",
        "its memory: 90 MB, 70 MB at the start",
    ]
    assert lines(Run(0.0)) == ["0 requests in 0.0 s: 0.0 a second"]


def test_failures_show_in_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    asked = Namespace(format="json", json=None, plot=None)
    assert tell(RUN, asked, {"load": "open"}) == 1
    assert '"load": "open"' in capsys.readouterr().out
    assert tell(Run(1.0, 1), asked, {}) == 0


@pytest.mark.parametrize("run", [RUN, Run(1.0)])
def test_the_plot_is_a_picture(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert plot(tmp_path / "r.png", run) is None
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
