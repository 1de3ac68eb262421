from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from workers.environments import PACKAGE_ROOT
from workers.errors import WorkerToolError
from workers.evaluation.result import FILE, Conditions, Evaluation, Subject, Verdict
from workers.quantization.gate import CannotJudge, Judged, evaluate, judged

DIGEST = "sha256:1"


def subject(digest: str | None) -> Subject:
    return Subject(
        name="scribe",
        artifact=None,
        digest=digest,
        recipe="fp8",
        quantization="fp8",
        weight_bytes=1,
        bits_per_weight=8.0,
    )


def evaluation(out: Path, *passed: bool | None, digest: str = DIGEST) -> Path:
    verdicts = tuple(
        Verdict(gate=f"gate {number}", passed=one, measured="0.2", bound="0.1", reason="too far" if not one else "")
        for number, one in enumerate(passed)
    )
    conditions = Conditions(at="", tollgate="", engine="", device="", libraries={}, seed=1, texts={})
    found = Evaluation(
        candidate=subject(digest), reference=subject("sha256:0"), conditions=conditions, verdicts=verdicts
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / FILE).write_text(found.to_json())
    return out


@pytest.mark.parametrize(
    ("passed", "verdict"),
    [
        ((True, True), Judged(True, ())),
        ((True, False), Judged(False, ("gate 1: too far",))),
        ((None,), Judged(False, ("gate 0: too far",))),
        ((), Judged(False, ())),
    ],
)
def test_a_version_passes_when_every_gate_does(
    tmp_path: Path, passed: tuple[bool | None, ...], verdict: Judged
) -> None:
    assert judged(evaluation(tmp_path, *passed), DIGEST) == verdict


def test_an_evaluation_of_something_else_is_none(tmp_path: Path) -> None:
    assert judged(tmp_path, DIGEST) is None
    assert judged(evaluation(tmp_path, True, digest="sha256:2"), DIGEST) is None


def test_a_broken_evaluation_is_an_error(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{")

    with pytest.raises(WorkerToolError, match="not an evaluation"):
        judged(tmp_path, DIGEST)


def test_what_was_evaluated_before_is_not_again(tmp_path: Path) -> None:
    gate = evaluate(["--no-such-option"])

    assert gate(tmp_path / "a", tmp_path / "b", evaluation(tmp_path / "out", True), DIGEST).passed


def test_an_evaluation_that_does_not_come_to_a_verdict_is_an_error(tmp_path: Path) -> None:
    gate = evaluate(["--no-such-option"])

    with pytest.raises(CannotJudge, match=r"(?s)exit 2.*tollgate-worker evaluate --candidate .*--no-such-option"):
        gate(tmp_path / "a", tmp_path / "b", tmp_path / "out", DIGEST)


def test_a_step_is_told_to_end_when_the_command_is_killed() -> None:
    """The step says so itself: its own SIGTERM handler prints before it goes."""
    step = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: (print('told', flush=True), sys.exit())); "
    step += "print('up', flush=True); signal.pause()"
    code = (
        "import subprocess, sys; from workers.quantization.gate import _end_with_parent;"
        f"subprocess.run([sys.executable, '-c', {step!r}], preexec_fn=_end_with_parent)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(PACKAGE_ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == "up\n"
        command.send_signal(signal.SIGKILL)
        assert command.stdout.readline() == "told\n"
