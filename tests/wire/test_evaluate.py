"""The whole of an evaluation over HTTP, against models whose every probability is known."""

from __future__ import annotations

import json
import math
import string
from pathlib import Path
from random import Random

import pytest

from tests.wire.logprob_server import CONTEXT, LogprobServer
from workers.cli import main
from workers.evaluation.result import Evaluation, read

REFERENCE = [0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.03, 0.02]
NEAR = [0.39, 0.21, 0.1, 0.1, 0.1, 0.05, 0.03, 0.02]
BROKEN = [0.02, 0.2, 0.1, 0.1, 0.1, 0.05, 0.03, 0.4]
# What needs no tasks: those are another test's.
MEASURED = ("--only", "divergence", "--only", "long-context", "--only", "speed")
JUDGED = ("--gate", "task=off", "--gate", "robustness=off", "--gate", "schema=off")


def divergence(reference: list[float], candidate: list[float]) -> float:
    return sum(p * math.log(p / q) for p, q in zip(reference, candidate, strict=True))


class Site:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.text = root / "text.txt"
        self.text.write_text("".join(Random(1).choices(string.ascii_letters[:48], k=60_000)))

    def evaluate(self, candidate: LogprobServer, reference: LogprobServer, *more: str, out: str = "out") -> int:
        return main(
            [
                *("evaluate", "--candidate-url", candidate.url, "--model", "m"),
                *("--reference", reference.url, "--reference-model", "m"),
                *("--out", str(self.root / out), "--text", str(self.text), "--cache", str(self.root / "cache")),
                *("--log-dir", str(self.root / "log"), "--quick", "--windows", "5", *more),
            ]
        )

    def found(self, out: str = "out") -> Evaluation:
        return read(self.root / out)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.mark.parametrize("dialect", ["vllm", "echo"])
def test_the_divergence_is_the_one_that_the_distributions_have(site: Site, dialect: str) -> None:
    with LogprobServer(REFERENCE, dialect) as reference, LogprobServer(NEAR, dialect) as candidate:
        assert site.evaluate(candidate, reference, *MEASURED, *JUDGED) == 0
    found = site.found()
    assert found.divergence is not None
    assert found.divergence.mean_kld.value == pytest.approx(divergence(REFERENCE, NEAR), abs=1e-9)
    assert found.divergence.same_top.value == 1.0
    assert found.floor is not None
    assert found.floor.mean_kld.value == 0.0
    # The text has all tokens about equally often, so the perplexity is that of the mean log-probability.
    assert found.perplexity is not None
    assert found.perplexity.reference == pytest.approx(math.exp(-sum(map(math.log, REFERENCE)) / 8), rel=0.05)
    (far,) = found.long_context
    assert (far.context, far.tokens) == (CONTEXT - 1, 2 * 256)
    assert far.mean_kld == pytest.approx(divergence(REFERENCE, NEAR), abs=1e-9)
    assert [one.batch for one in found.candidate_running.speed] == [1, 4, 8, 16]
    assert found.conditions.engine == "vllm 0.32.0"
    assert all(one.output_tokens_per_second > 0 for one in found.candidate_running.speed)


def test_a_broken_version_is_stopped_with_its_reasons(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    with LogprobServer(REFERENCE) as reference, LogprobServer(BROKEN) as candidate:
        assert site.evaluate(candidate, reference, *MEASURED, *JUDGED) == 1
    found = site.found()
    failed = {one.gate for one in found.verdicts if one.passed is False}
    assert failed == {"divergence", "same-top", "long-context"}  # its perplexity on this text is the same
    assert found.divergence is not None
    assert found.divergence.mean_kld.value == pytest.approx(divergence(REFERENCE, BROKEN), abs=1e-9)
    said = capsys.readouterr().out
    assert "m did not pass: divergence, same-top, long-context" in said


def test_less_told_is_a_smaller_divergence_and_never_a_larger(site: Site) -> None:
    many = [1 / 1024] * 1024
    other = [(1 + (i % 2) / 2) / 1280 for i in range(1024)]
    with LogprobServer(many) as reference, LogprobServer(other) as candidate:
        site.evaluate(candidate, reference, "--only", "divergence")
    found = site.found()
    assert found.divergence is not None
    assert found.divergence.top_k == 32
    assert 0 <= found.divergence.mean_kld.value < divergence(many, other)


def test_without_a_task_nothing_passes(site: Site) -> None:
    with LogprobServer(REFERENCE) as reference, LogprobServer(REFERENCE) as candidate:
        assert site.evaluate(candidate, reference, *MEASURED) == 1
    assert {one.gate for one in site.found().verdicts if not one.passed and not one.optional} == {"tasks", "robustness"}


def test_another_tokenizer_can_not_be_compared(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    with LogprobServer(REFERENCE) as reference, LogprobServer(REFERENCE, shift=1) as candidate:
        assert site.evaluate(candidate, reference, *MEASURED) == 1
    assert "other tokens than the reference" in capsys.readouterr().err
    assert not (site.root / "out").exists()


def test_an_endpoint_that_tells_nothing_is_an_error(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    with LogprobServer(REFERENCE) as reference, LogprobServer(REFERENCE, "none") as candidate:
        assert site.evaluate(candidate, reference, *MEASURED) == 1
    assert "neither as prompt_logprobs nor with echo" in capsys.readouterr().err


def test_the_same_seed_asks_the_same_and_another_one_does_not(site: Site) -> None:
    with LogprobServer(REFERENCE) as reference, LogprobServer(NEAR) as candidate:
        for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
            site.evaluate(candidate, reference, "--only", "divergence", "--seed", seed, out=out)
    first, second, other = (site.found(out) for out in "abc")
    assert first.divergence == second.divergence
    assert first.perplexity == second.perplexity
    assert first.conditions.texts == second.conditions.texts != other.conditions.texts


def test_a_build_fails_on_what_was_lost_since_its_baseline(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    baseline = ("--baseline", str(site.root / "out"), "--tolerance", "speed=off", "--tolerance", "latency=off")
    worse = [0.36, 0.24, 0.1, 0.1, 0.1, 0.05, 0.03, 0.02]
    with LogprobServer(REFERENCE) as reference, LogprobServer(NEAR) as candidate, LogprobServer(worse) as regressed:
        assert site.evaluate(candidate, reference, *MEASURED, *JUDGED) == 0
        assert site.evaluate(candidate, reference, *MEASURED, *JUDGED, *baseline, out="again") == 0
        assert site.evaluate(regressed, reference, *MEASURED, *JUDGED, *baseline, out="worse") == 1
    assert [one.gate for one in site.found("worse").verdicts if not one.passed] == ["baseline divergence"]
    assert "lost against the baseline" in capsys.readouterr().out


def test_json_is_the_evaluation(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    with LogprobServer(REFERENCE) as reference, LogprobServer(NEAR) as candidate:
        site.evaluate(candidate, reference, "--only", "divergence", "--format", "json")
    assert json.loads(capsys.readouterr().out) == json.loads((site.root / "out/evaluation.json").read_text())


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--gate", "kdl=1"), "no gate is called kdl"),
        (("--tolerance", "speed=1%"), "give one"),
        (("--baseline", "missing"), "cannot be read"),
        (("--text", "missing"), "no such file"),
        (("--context", "4096"), "more than the 512 tokens"),
        (("--key-env", "NOT_SET_ANYWHERE"), "no such variable"),
        (("--adapter", "x"), "an adapter has a name of its own"),
    ],
)
def test_mistakes_are_said_before_anything_is_measured(
    site: Site, more: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with LogprobServer(REFERENCE) as reference, LogprobServer(NEAR) as candidate:
        assert site.evaluate(candidate, reference, *more) in (1, 2)
        assert says in capsys.readouterr().err
        assert candidate.asked == reference.asked == []


def test_a_directory_with_anything_else_in_it_is_not_replaced(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    (site.root / "out").mkdir()
    (site.root / "out/model.safetensors").write_text("weights")
    with LogprobServer(REFERENCE) as reference, LogprobServer(NEAR) as candidate:
        assert site.evaluate(candidate, reference) == 2
    assert "model.safetensors" in capsys.readouterr().err
    assert (site.root / "out/model.safetensors").read_text() == "weights"


def test_an_output_that_can_not_be_made_is_said_at_once(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    (site.root / "file").touch()
    with LogprobServer(REFERENCE) as reference, LogprobServer(NEAR) as candidate:
        assert site.evaluate(candidate, reference, out="file") == 2
        assert site.evaluate(candidate, reference, out="file/out") == 2
        assert candidate.asked == reference.asked == []
    assert "choose another directory" in capsys.readouterr().err


def test_a_file_of_bounds_and_an_option_that_wins(site: Site) -> None:
    gates = site.root / "gates.yaml"
    gates.write_text("kld: 0.5\nsame-top: 10%\nrobustness: off\ntask: off\nperplexity: 3\n")
    with LogprobServer(REFERENCE) as reference, LogprobServer(BROKEN) as candidate:
        assert site.evaluate(candidate, reference, *MEASURED, "--gates", str(gates), "--gate", "kld=9") == 1
    found = site.found()
    assert (found.bounds["kld"], found.bounds["same-top"], found.bounds["robustness"]) == (9.0, 0.1, None)
    assert set(found.chosen) == {"kld", "same-top", "robustness", "task", "perplexity"}
