"""The tour's stop at the gate: a version that is broken is made, measured through the real engine, and not let in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from workers.demo.held import hold
from workers.evaluation import result

MODELS = Path("var/models")
EVALUATION = Path("var/evaluations/scribe-broken")
VERSION = "broken"


def stop_broken(config: Path) -> None:
    """Raises NotHeld where the gate lets it pass, or the registry takes it."""
    broken = MODELS / "scribe-broken"
    made = _run("workers.demo.broken", MODELS / "scribe-int4", broken)
    hold(made.returncode == 0, f"the broken version could not be made: {made.stderr.strip()}")
    print("   the 4-bit weights of scribe, each pair in the other's place: the files are whole, and vLLM loads them")

    print(f"   $ tollgate-worker evaluate --candidate {broken} --reference {MODELS / 'scribe'} --quick …", flush=True)
    evaluated = _run(
        "workers.cli",
        *("evaluate", "--candidate", broken, "--reference", MODELS / "scribe"),
        *("--quick", "--only", "divergence", "--out", EVALUATION),
    )
    hold(evaluated.returncode == 1, f"it was not judged:\n{evaluated.stderr}")
    found = result.read(EVALUATION)
    for verdict in found.verdicts:
        if verdict.passed is False:
            print(f"     {verdict.gate}: {verdict.measured}, must be {verdict.bound}")
    rejected = {verdict.gate for verdict in found.verdicts if verdict.passed is False}
    hold({"divergence", "same-top", "perplexity"} <= rejected, f"only {sorted(rejected)} rejected it")
    print(f"     the report: {EVALUATION / 'report.html'}")

    print(f"   $ tollgate-worker register {broken} --model scribe --version {VERSION} …", flush=True)
    before = (config / "models.yaml").read_bytes()
    registered = _run(
        "workers.cli",
        *("register", broken, "--evaluation", EVALUATION, "--config", config),
        *("--model", "scribe", "--version", VERSION),
    )
    hold(registered.returncode == 1 and "has not passed" in registered.stderr, "the registry took it")
    hold((config / "models.yaml").read_bytes() == before, "models.yaml was changed")
    print("     refused, and models.yaml is as it was: nothing can be routed to it")


def _run(module: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)
