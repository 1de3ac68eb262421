"""What people and programs are told."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console

from workers.engines.spec import Inference, LaunchSpec
from workers.supervisor.life import Life, State
from workers.supervisor.process import Engines
from workers.supervisor.report import JsonReport, LineReport, LiveReport, describe

SPEC = LaunchSpec("w", 8101, ("engine",), {}, "/health", Inference("/v1/completions", {}))
LOG = Path("var/log/workers/w.log")


class Logs:
    """Of `Engines`, a report needs only where the logs are."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def log(self, name: str) -> Path:
        return self._directory / f"{name}.log"


@pytest.fixture
def engines(tmp_path: Path) -> Engines:
    return cast("Engines", Logs(tmp_path))


@pytest.mark.parametrize(
    ("life", "line"),
    [
        (Life(State.STARTING), "w: starting on port 8101, log var/log/workers/w.log"),
        (Life(State.READY), "w: ready at http://127.0.0.1:8101"),
        (Life(State.STOPPING), "w: stopping"),
        (Life(State.STOPPED), "w: stopped"),
        (
            Life(State.BACKING_OFF, since=10, deadline=12.5, reason="killed by SIGILL"),
            "w: killed by SIGILL; trying again in 2.5 s",
        ),
        (
            Life(State.FAILED, failures=3, reason="exited with status 1"),
            "w: exited with status 1; given up after 3 tries",
        ),
    ],
)
def test_every_state_in_words(life: Life, line: str) -> None:
    assert describe(SPEC, life, LOG, [], None) == [line]


def test_the_end_of_the_log_follows_what_went_wrong() -> None:
    lines = describe(SPEC, Life(State.FAILED, failures=3, reason="exited with status 1"), LOG, ["a", "b"], None)
    assert lines[1:] == ["  from var/log/workers/w.log:", "  | a", "  | b"]


def test_lines_say_how_long_the_start_took(engines: Engines, capsys: pytest.CaptureFixture[str]) -> None:
    report = LineReport(engines)
    report.changed(SPEC, Life(State.STARTING, since=100), [])
    report.changed(SPEC, Life(State.READY, since=121.4), [])
    assert capsys.readouterr().out.splitlines()[1] == "w: ready at http://127.0.0.1:8101 after 21 s"


def test_json_is_one_object_per_change(engines: Engines, capsys: pytest.CaptureFixture[str]) -> None:
    report = JsonReport(engines)
    report.changed(SPEC, Life(State.BACKING_OFF, reason="exited with status 1"), ["last\nwords"])
    report.note("SIGTERM: stopping")
    output, errors = capsys.readouterr()
    assert json.loads(output) == {
        "worker": "w",
        "state": "backing_off",
        "reason": "exited with status 1",
        "port": 8101,
        "log": str(engines.log("w")),
        "last_words": ["last\nwords"],
    }
    assert errors == "SIGTERM: stopping\n"


def test_the_table_shows_what_a_starting_engine_says(engines: Engines) -> None:
    engines.log("w").write_bytes(b"earlier\n\x1b[36mINFO\x1b[0m loading \x07[weights]\n")
    console = Console(file=io.StringIO(), width=100)
    report = LiveReport(console, engines, [SPEC])
    assert drawn(report) == "w  waiting"
    report.changed(SPEC, Life(State.STARTING, since=1), [])
    assert drawn(report).endswith("INFO loading [weights]")
    report.changed(SPEC, Life(State.READY, since=1), [])
    assert drawn(report).endswith("http://127.0.0.1:8101")
    report.changed(SPEC, Life(State.FAILED, since=1, reason="exited [1]", failures=3), ["words"])
    assert drawn(report).endswith("exited [1]")
    assert "  | words\n" in cast("io.StringIO", console.file).getvalue()


def drawn(report: LiveReport) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(report.table())
    return cast("io.StringIO", console.file).getvalue().strip()


def test_a_reader_that_went_away_stops_nothing(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, s: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", Gone())
    LineReport(engines).changed(SPEC, Life(State.READY), [])
