"""Demo versions held against their reference through real vLLM: one that is good, and one that a mistake has broken."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.contract.conftest import ROOT
from workers.cli import main
from workers.demo.broken import PACKED, SWAPPED, WEIGHTS
from workers.evaluation.result import Evaluation, read
from workers.weight_files import read_header

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

MODELS = ROOT / "var/models"


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    directory = tmp_path / "scribe-broken"
    shutil.copytree(MODELS / "scribe-int4", directory)
    weights = bytearray((directory / WEIGHTS).read_bytes())
    for tensor in read_header(directory / WEIGHTS):
        if tensor.name.endswith(PACKED):
            weights[tensor.start : tensor.end] = weights[tensor.start : tensor.end].translate(SWAPPED)
    (directory / WEIGHTS).write_bytes(weights)
    return directory


def test_what_is_good_is_close_to_its_reference_and_what_is_broken_is_not(
    tmp_path: Path, broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def evaluate(candidate: Path) -> tuple[int, Evaluation]:
        out = tmp_path / f"evaluation-{candidate.name}"
        status = main(
            [
                *("evaluate", "--candidate", str(candidate), "--reference", str(MODELS / "scribe"), "--out", str(out)),
                *(
                    "--quick",
                    "--windows",
                    "6",
                    "--only",
                    "divergence",
                    "--gate",
                    "task=off",
                    "--gate",
                    "robustness=off",
                ),
                *("--gate", "schema=off", "--cache", str(tmp_path / "cache"), "--log-dir", str(tmp_path / "log")),
                *("--context", "512", "--engine-arg=--kv-cache-memory-bytes=67108864"),
            ]
        )
        return status, read(out)

    _, good = evaluate(MODELS / "scribe-int8")
    assert good.floor is not None
    assert good.floor.mean_kld.high < 0.001
    assert good.divergence is not None
    assert 0 < good.divergence.mean_kld.value < 0.01
    assert good.divergence.same_top.value > 0.96
    assert good.perplexity is not None
    assert 20 < good.perplexity.reference < 60
    assert good.candidate_running.memory is not None
    assert good.candidate_running.memory.kv_tokens > 10_000
    assert good.candidate_running.memory.peak_bytes > 300 * 2**20
    assert {one.gate for one in good.verdicts if not one.passed} == {"long-context"}  # it was not asked for

    status, bad = evaluate(broken)
    assert status == 1
    assert {"divergence", "same-top", "perplexity"} <= {one.gate for one in bad.verdicts if one.passed is False}
    assert bad.perplexity is not None
    assert bad.perplexity.reference == good.perplexity.reference  # the reference was not asked again
