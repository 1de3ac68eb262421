"""An evaluation out of what was measured of the two models. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from workers.evaluation import baseline as baselines
from workers.evaluation import gates
from workers.evaluation.amount import Amount
from workers.evaluation.baseline import Tolerances
from workers.evaluation.bounds import Bounds
from workers.evaluation.comparison import Compared, compare, divergence_of, long_context_of, perplexity_of
from workers.evaluation.measured import Measured, Packed, unpack
from workers.evaluation.result import Conditions, Evaluation, Subject
from workers.evaluation.robustness import compare_robustness
from workers.evaluation.schemas import compare_schemas
from workers.evaluation.tasks.asking import compare_tasks


def assemble(
    candidate: Subject,
    reference: Subject,
    conditions: Conditions,
    measured: Measured,
    against: Measured,
    amount: Amount,
) -> Evaluation:
    """Without verdicts: those depend on all of it. `against` is what was measured of the reference.

    Raises CannotMeasure where the reference itself failed at examples.
    """
    text = _compared(against.scored, measured.scored)
    long = _compared(against.long_scored, measured.long_scored)
    seed = conditions.seed
    return Evaluation(
        candidate=candidate,
        reference=reference,
        conditions=conditions,
        floor=against.floor,
        divergence=divergence_of(text, amount.top_k, seed) if text else None,
        perplexity=perplexity_of(text, seed) if text else None,
        tasks=compare_tasks(against.tasks, measured.tasks),
        robustness=compare_robustness(against.robustness, measured.robustness)
        if against.robustness and measured.robustness
        else (),
        schemas=compare_schemas(against.schemas, measured.schemas) if against.schemas and measured.schemas else (),
        long_context=(long_context_of(long, len(against.long_windows[0])),) if long else (),
        candidate_running=measured.running,
        reference_running=against.running,
    )


def judged(
    found: Evaluation, bounds: Bounds, chosen: Sequence[str], before: Evaluation | None, tolerances: Tolerances
) -> Evaluation:
    """With its verdicts, those against an earlier evaluation too where there is one."""
    regressions = () if before is None else baselines.verdicts(found, before, tolerances)
    allowed = {name.replace("_", "-"): value for name, value in asdict(bounds).items()}
    verdicts = (*gates.verdicts(found, bounds), *regressions)
    return found.model_copy(update={"verdicts": verdicts, "bounds": allowed, "chosen": tuple(chosen)})


def _compared(reference: Sequence[Packed], candidate: Sequence[Packed]) -> list[Compared]:
    if not reference or not candidate:
        return []
    return [compare(one, other) for one, other in zip(unpack(reference), unpack(candidate), strict=True)]
