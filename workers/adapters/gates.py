"""What an adapter must show beside what every version must: that it does better what it was made for, and still reads
other text about as well as its base does. Pure."""

from __future__ import annotations

from workers.errors import WrongUsage
from workers.evaluation.paired import SIGNIFICANCE, mcnemar
from workers.evaluation.result import Evaluation, Task, Verdict

GENERAL = 1.10  # perplexity of general text beside the base's, at most: what an adapter may unlearn

EVALUATE = "tollgate-worker evaluate --candidate BASE --adapter DIR --reference BASE"


def judged(found: Evaluation, task: str, general: float | None) -> Evaluation:
    """The evaluation with the adapter's own verdicts. `general` None does not ask. Raises WrongUsage where the task was
    not measured, or nothing was judged."""
    if not found.verdicts:
        raise WrongUsage("no gate has judged the evaluation; make it with tollgate-worker evaluate")
    own = next((one for one in found.tasks if one.name == task), None)
    if own is None:
        known = ", ".join(one.name for one in found.tasks) or "none"
        raise WrongUsage(
            f"--task {task}: the evaluation has not measured it, but {known}; measure it with: {EVALUATE} --task {task}"
        )
    # A loss on other tasks is what `evaluate` has judged; that this one is not worse is less than it has to be.
    mine = (improves(own), *(() if general is None else (reads_as_before(found, general),)))
    return found.model_copy(update={"verdicts": (*found.verdicts, *mine)})


def improves(task: Task) -> Verdict:
    """More right answers than the base gives, and more than chance would."""
    p_value = mcnemar(task.gained, task.lost)  # the two change places: a gain is the base's loss
    counted = f"{task.gained} gained, {task.lost} lost of {task.examples}"
    shown = task.gained > task.lost and p_value < SIGNIFICANCE
    return Verdict(
        gate=f"improves {task.name}",
        passed=shown,
        measured=f"{task.candidate_correct} right, the base {task.reference_correct} (p = {p_value:.2g})",
        bound=f"better than the base, p < {SIGNIFICANCE:g}",
        reason=f"it does what it was made for better than its base: {counted}"
        if shown
        else f"nothing shows that it does what it was made for better than its base: {counted}; train longer, or on"
        " more like it",
    )


def reads_as_before(found: Evaluation, bound: float) -> Verdict:
    """The perplexity of general text, which an adapter that was trained too hard has unlearnt."""
    measured = found.perplexity
    if measured is None:
        return Verdict(
            gate="general text",
            passed=None,
            measured="–",
            bound=f"≤ × {bound:g}",
            reason="perplexity was not measured; evaluate without --only, or with --only divergence too",
        )
    ratio = measured.ratio.value
    return Verdict(
        gate="general text",
        passed=ratio <= bound,
        measured=f"× {ratio:.4f}",
        bound=f"≤ × {bound:g}",
        reason="it reads text that it was not made for about as well as its base"
        if ratio <= bound
        else "it has unlearnt what its base knew: train shorter, with a lower learning rate or rank, or say with"
        " --general how much may be lost",
        value=ratio,
        limit=bound,
        ideal=1.0,
    )
