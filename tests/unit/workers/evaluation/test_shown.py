"""An evaluation on a terminal: what passed in a line, what did not with its reason."""

from __future__ import annotations

from tests.unit.workers.evaluation.evaluations import divergence, evaluation, interval
from workers.evaluation.assemble import judged
from workers.evaluation.baseline import Tolerances
from workers.evaluation.bounds import EIGHT_BITS
from workers.evaluation.result import Evaluation
from workers.evaluation.shown import table


def shown(found: Evaluation) -> list[str]:
    return table(judged(found, EIGHT_BITS, (), None, Tolerances())).splitlines()


def test_what_passed_is_one_line_each() -> None:
    lines = shown(evaluation())
    assert lines[0] == "tiny@int8 (w8a8) against tiny, vllm 0.32.0 on CPU, seed 1"
    assert lines[-1] == "tiny@int8 passed"
    (line,) = (line for line in lines if "perplexity " in line and "×" in line and "≤" in line and "long" not in line)
    assert line.split() == ["passed", "perplexity", "×", "1.0100", "(1.0050", "to", "1.0150)", "≤", "×", "1.0250"]


def test_what_did_not_pass_says_why_and_the_sum_names_it() -> None:
    lines = shown(evaluation(divergence=divergence(interval(0.2, 0.1, 0.3), 0.5), tasks=()))
    at = next(number for number, line in enumerate(lines) if "FAILED    divergence" in line)
    assert "0.2000 nats (0.1000 to 0.3000)" in lines[at]
    assert "more is lost than may be" in lines[at + 1]
    assert any("unjudged  tasks" in line for line in lines)
    assert lines[-1] == "tiny@int8 did not pass: divergence, same-top, tasks"


def test_an_evaluation_without_gates_has_not_passed() -> None:
    assert table(evaluation()).endswith("tiny@int8 did not pass: no gate was asked")
