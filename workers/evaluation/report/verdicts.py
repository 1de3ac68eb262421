"""The verdict in sentences, and each gate with how far its measurement is from its bound."""

from __future__ import annotations

from collections.abc import Sequence

from workers.evaluation.report.document import SYMBOLS, Cell, State, Table
from workers.evaluation.report.numbers import counted, finite, listed, number, spelled
from workers.evaluation.report.versions import Candidate
from workers.evaluation.result import Evaluation, Verdict

MEANINGS = {
    "floor": "the reference against itself: what the measure shows where nothing differs",
    "divergence": "how far its word probabilities are from the reference's",
    "same-top": "how often its most probable next token is the reference's",
    "perplexity": "how much more a text it has never seen surprises it",
    "long-context": "the same at the end of long texts",
    "robustness": "empty, very long and noisy inputs",
    "task": "the same questions asked of both, paired",
    "schema": "answers that are valid under the JSON schema asked for",
    "speed": "tokens per second and time to the first token",
    "memory": "weights and the largest size of the process",
}


def share_used(verdict: Verdict) -> float | None:
    """Of what may be lost, the share that has been lost: 0 is nothing (or a gain), 1 is the bound."""
    value, limit, ideal = finite(verdict.value), finite(verdict.limit), finite(verdict.ideal)
    if value is None or limit is None:
        return None
    if ideal is None:
        ideal = 0.0
    if limit == ideal:
        return None if value == ideal else (0.0 if verdict.passed else float("inf"))
    return max(0.0, (value - ideal) / (limit - ideal))


def distance(share: float) -> str:
    """`31 % of the bound`, `2.3× over the bound`."""
    if share <= 1:
        return f"{share * 100:.0f}\u202f% of the bound"
    return f"{number(share, 2)}× the bound" if share < 1e6 else "far over the bound"


def state(verdict: Verdict) -> State:
    return "open" if verdict.passed is None else "pass" if verdict.passed else "fail"


def standing(evaluation: Evaluation) -> State:
    """Failed, or not proven: no gate failed, but one that counts could not be judged, or there is none."""
    if evaluation.passed:
        return "pass"
    return "fail" if any(one.passed is False for one in evaluation.verdicts) else "open"


def stopped_by(evaluation: Evaluation) -> list[Verdict]:
    """The gates that forbid serving, failed ones first."""
    failed = [one for one in evaluation.verdicts if one.passed is False]
    return failed + [one for one in evaluation.verdicts if one.passed is None and not one.optional]


def short_verdict(evaluation: Evaluation) -> str:
    return {"pass": "may serve", "fail": "may not serve", "open": "may not serve yet"}[standing(evaluation)]


def because(evaluation: Evaluation) -> str:
    """One sentence: by which gates."""
    if not evaluation.verdicts:
        return "No gate has judged it."
    if evaluation.passed:
        unknown = [one for one in evaluation.verdicts if one.passed is None]
        judged = len(evaluation.verdicts) - len(unknown)
        rest = f"; {listed([one.gate for one in unknown])} could not be judged, and need not be" if unknown else ""
        every = {1: "the gate", 2: "both gates"}.get(judged, f"all {counted(judged, 'gate')}")
        return f"It passed {every}{rest}."
    first, *others = stopped_by(evaluation)
    if first.passed is None:
        said = f"Gate {first.gate} could not be judged: {_sentence(first.reason) or 'nothing was measured.'}"
    else:
        said = f"Gate {first.gate} stopped it: measured {first.measured}, bound {first.bound}."
    failed = [one.gate for one in others if one.passed is False]
    unknown = [one.gate for one in others if one.passed is None]
    if failed:
        said += f" So did {_briefly(failed)}."
    if unknown:
        said += f" {'Nor could' if first.passed is None else 'Not judged:'} {_briefly(unknown)}."
    return said


def _briefly(gates: list[str]) -> str:
    return listed(gates[:4] + ([f"{len(gates) - 4} more"] if len(gates) > 4 else []))


def headline(found: Sequence[Candidate]) -> tuple[State, str]:
    if len(found) == 1:
        (one,) = found
        return standing(one.evaluation), f"{one.name} {short_verdict(one.evaluation)}"
    allowed = sum(one.passed for one in found)
    if allowed == len(found):
        return "pass", f"{'Both' if len(found) == 2 else f'All {spelled(len(found))}'} versions may serve"
    if allowed:
        return "open", f"{spelled(allowed).capitalize()} of {counted(len(found), 'version')} may serve"
    none = "Neither version may serve" if len(found) == 2 else f"None of {spelled(len(found))} versions may serve"
    if all(standing(one.evaluation) == "open" for one in found):
        return "open", f"{none} yet"
    return "fail", none


def stamp(found: Sequence[Candidate]) -> str:
    """A sign, or how many of how many where some may serve."""
    state, _ = headline(found)
    allowed = sum(one.passed for one in found)
    return f"{allowed}/{len(found)}" if 0 < allowed < len(found) else SYMBOLS[state]


def gate_table(candidate: Candidate) -> Table | None:
    if not candidate.evaluation.verdicts:
        return None
    return Table(
        f"Gates of {candidate.name}",
        ("gate", "verdict", "measured", "bound", "how near", "why"),
        tuple(_gate(one) for one in candidate.evaluation.verdicts),
        "llllll",
    )


def _gate(verdict: Verdict) -> tuple[Cell, ...]:
    used = share_used(verdict)
    words = {"pass": "passed", "fail": "failed", "open": "not judged"}[state(verdict)]
    return (
        Cell(verdict.gate, aside=MEANINGS.get(verdict.gate.partition(" ")[0], "")),
        Cell(words, state=state(verdict), aside="optional" if verdict.optional else ""),
        Cell(verdict.measured or "–"),
        Cell(verdict.bound or "–"),
        Cell("" if used is None else distance(used), gauge=used, state=None),
        Cell(verdict.reason),
    )


def gates_said(evaluation: Evaluation) -> str:
    passed = sum(one.passed is True for one in evaluation.verdicts)
    return f"{passed} of {len(evaluation.verdicts)} gates passed"


def _sentence(text: str) -> str:
    text = text.strip()
    return text if not text or text[-1] in ".!?" else f"{text}."
