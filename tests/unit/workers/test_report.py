from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.evaluations import several
from workers.cli import main


@pytest.fixture
def evaluations(tmp_path: Path) -> list[str]:
    """Three directories as `evaluate` leaves them."""
    directories = [tmp_path / f"evaluation-{place}" for place in range(3)]
    for directory, one in zip(directories, several(3), strict=True):
        directory.mkdir()
        (directory / "evaluation.json").write_text(one.to_json())
    return [str(directory) for directory in directories]


def test_evaluations_become_a_report_and_a_table(
    evaluations: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["report", *evaluations, "--out", str(tmp_path / "out")])

    said = capsys.readouterr().out
    assert code == 0
    assert "Two of three versions may serve" in (tmp_path / "out/report.html").read_text()
    assert "scribe@int4" in said
    assert "divergence, same-top" in said
    assert said.splitlines()[-2:] == [str(tmp_path / "out/report.html"), str(tmp_path / "out/report.md")]


def test_the_same_as_numbers(evaluations: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["report", *evaluations, "--out", str(tmp_path / "out"), "--format", "json"])

    said = json.loads(capsys.readouterr().out)
    assert said["report"] == str(tmp_path / "out/report.html")
    assert [one["passed"] for one in said["versions"]] == [True, True, False]
    assert said["versions"][1]["mean_kld"] == 0.0021
    assert said["versions"][2]["stopped_by"][0] == "divergence"


def test_what_is_no_evaluation_is_refused_before_anything_is_written(
    evaluations: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["report", *evaluations, str(tmp_path / "none"), "--out", str(tmp_path / "out")])

    assert code == 1
    assert "none cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_report_needs_an_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["report", "--out", "out"])

    assert stopped.value.code == 2
