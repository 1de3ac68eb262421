"""The gate of a version: `tollgate-worker evaluate` in a process of its own, and what its evaluation.json says."""

from __future__ import annotations

import ctypes
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from workers.errors import WorkerToolError
from workers.evaluation.result import FILE, read

_PR_SET_PDEATHSIG = 1
_ENDED_WITHIN = 60.0  # seconds from SIGTERM on, after which a step is killed


class CannotJudge(WorkerToolError):
    """The evaluation did not come to a verdict; the message says what it was asked."""


@dataclass(frozen=True, slots=True)
class Judged:
    """`reasons` are those of the gates that did not pass."""

    passed: bool
    reasons: tuple[str, ...]


Gate = Callable[[Path, Path, Path, str], Judged]  # candidate, reference, where the evaluation goes, candidate's digest


def evaluate(arguments: Sequence[str]) -> Gate:
    """The real gate, with more arguments for `evaluate`."""

    def judge(candidate: Path, reference: Path, out: Path, digest: str) -> Judged:
        found = judged(out, digest)
        if found is not None:
            return found
        command = ["evaluate", "--candidate", str(candidate), "--reference", str(reference), "--out", str(out)]
        command += ["--name", candidate.parent.name]  # its recipe
        status = run_command([*command, *arguments])
        found = judged(out, digest)
        if found is None or status not in (0, 1):
            raise CannotJudge(
                f"{candidate.name} could not be judged (exit {status}); what was asked:\n"
                f"tollgate-worker {shlex.join([*command, *arguments])}"
            )
        return found

    return judge


def judged(out: Path, digest: str) -> Judged | None:
    """What an evaluation in `out` says of the artifact with this digest; None where there is none of it."""
    if not (out / FILE).is_file():
        return None
    found = read(out)
    if found.candidate.digest != digest:
        return None
    reasons = tuple(f"{one.gate}: {one.reason or one.measured}" for one in found.verdicts if not one.passed)
    return Judged(found.passed, reasons)


def run_command(arguments: Sequence[str]) -> int:
    """`tollgate-worker ARGUMENTS` in a child that ends with this process, and is told to end when this one is."""
    with subprocess.Popen(
        [sys.executable, "-m", "workers.cli", *arguments], stdout=sys.stderr, preexec_fn=_end_with_parent
    ) as child:
        try:
            return child.wait()
        except BaseException:
            child.terminate()
            try:
                child.wait(_ENDED_WITHIN)
            except subprocess.TimeoutExpired:
                child.kill()
            raise


def interrupt(*_: object) -> NoReturn:
    """A handler of SIGTERM: what is under way is cleaned up as for Ctrl-C."""
    sys.exit(128 + signal.SIGTERM)


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
