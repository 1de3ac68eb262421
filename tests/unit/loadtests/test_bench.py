"""A whole bench, as small as it gets: no peers but the worker itself."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from loadtests import bench
from loadtests.figures import Effort


def test_who_runs_where() -> None:
    one = bench.Cores.among([0])
    assert (one.relay, one.worker, one.generator) == ((), (), ())
    two = bench.Cores.among([0, 1])
    assert (two.relay, two.two_relays, two.worker, two.generator) == ((0,), (0,), (1,), (1,))
    four = bench.Cores.among([0, 1, 2, 3])
    assert (four.relay, four.two_relays, four.worker, four.generator) == ((0,), (0, 1), (2,), (3,))


def test_it_measures_prints_and_keeps_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cores = os.sched_getaffinity(0)
    monkeypatch.setattr(bench, "QUICK", Effort(repetitions=2, seconds=0.05, streams=5, many=20))
    monkeypatch.setattr("sys.argv", ["bench", "--quick", "--only", "direct", "--out", str(tmp_path)])
    assert bench.main() == 0  # what was not measured is not missed
    assert os.sched_getaffinity(0) == cores
    out = capsys.readouterr().out
    assert "non-stream, 32 connections: requests/s" in out
    assert "not measured" in out
    (results,) = tmp_path.glob("*.json")
    document = json.loads(results.read_text())
    first = [run for run in document["runs"] if run["figure"] == "throughput"]
    assert [run["repetition"] for run in first] == [0, 1]
    assert first[0]["requests_per_second"] > 0
    assert {verdict["outcome"] for verdict in document["verdicts"]} == {"not measured"}
