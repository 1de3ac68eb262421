"""What was measured against what may be lost: one verdict per gate, with its reason. Pure.

How an estimate with a confidence interval is judged, by `_judged`: beyond the bound it fails; with its whole interval
within, it passes; in between it passes too, and its reason says that the interval is not within, unless the interval
reaches further past the bound than the bound allows to be lost at all: then too little was measured to judge.

A task fails when its loss is beyond the margin and McNemar's test says it is no chance; a loss beyond the margin that
may be chance could not be judged. Divergence can reject, but nothing passes without a task that was measured.
"""

from __future__ import annotations

from collections.abc import Iterator

from workers.evaluation.bounds import Bounds
from workers.evaluation.result import Divergence, Evaluation, Interval, Running, SchemaAdherence, Task, Verdict

CHANCE = 0.05  # McNemar's p-value from which on a loss may be chance

NOT_MEASURED = "not measured; run the evaluation without --only, or name this part too"


def verdicts(found: Evaluation, bounds: Bounds) -> tuple[Verdict, ...]:
    """Every gate that is asked, in the order in which a reader wants them."""
    return tuple(verdict for gate in GATES for verdict in gate(found, bounds))


def _floor(found: Evaluation, bounds: Bounds) -> Iterator[Verdict]:
    """The reference against itself must differ by much less than a candidate may, or nothing is measured at all."""
    if bounds.floor is None or (bounds.kld is None and bounds.same_top is None):
        return
    kld = None if bounds.kld is None else bounds.kld * bounds.floor
    same = None if bounds.same_top is None else 1 - (1 - bounds.same_top) * bounds.floor
    wanted = [text for text in (_at_most(kld, " nats"), _at_least(same)) if text]
    bound = ", ".join(wanted)
    if found.floor is None:
        yield Verdict(gate="floor", passed=None, measured="–", bound=bound, reason=NOT_MEASURED)
        return
    floor = found.floor
    calm = (kld is None or floor.mean_kld.high <= kld) and (same is None or floor.same_top.value >= same)
    yield Verdict(
        gate="floor",
        passed=True if calm else None,
        measured=f"{_nats(floor.mean_kld)}, {floor.same_top.value:.2%} same top",
        bound=bound,
        reason="the reference agrees with itself"
        if calm
        else "the reference differs from itself by so much that a candidate's divergence says nothing; measure more"
        " text, or run the engine with more exact logits (--engine-arg=--dtype=float32)",
        value=floor.mean_kld.high if kld is not None else None,
        limit=kld,
        ideal=0.0 if kld is not None else None,
    )


def _divergence(found: Evaluation, bounds: Bounds) -> Iterator[Verdict]:
    measured: Divergence | None = found.divergence
    if bounds.kld is not None:
        yield _judged(
            "divergence",
            measured and measured.mean_kld,
            bounds.kld,
            ideal=0.0,
            shown="{:.4f}",
            unit=" nats",
            meaning="mean KL divergence of next-token distributions",
        )
    if bounds.same_top is not None:
        yield _judged(
            "same-top",
            measured and measured.same_top,
            bounds.same_top,
            ideal=1.0,
            shown="{:.2%}",
            meaning="positions with the same most probable token",
        )


def _perplexity(found: Evaluation, bounds: Bounds) -> Iterator[Verdict]:
    if bounds.perplexity is not None:
        yield _judged(
            "perplexity",
            found.perplexity and found.perplexity.ratio,
            bounds.perplexity,
            ideal=1.0,
            shown="× {:.4f}",
            meaning="perplexity beside the reference's",
        )


def _long_context(found: Evaluation, bounds: Bounds) -> Iterator[Verdict]:
    """At the end of the longest context, where errors of the KV cache and of positions have added up."""
    if bounds.kld is None or bounds.perplexity is None:
        return
    bound = f"≤ {bounds.kld:.4f} nats, perplexity ≤ × {bounds.perplexity:g}"
    if not found.long_context:
        yield Verdict(gate="long-context", passed=None, measured="–", bound=bound, reason=NOT_MEASURED)
    for one in found.long_context:
        lost = [
            *(["it diverges"] if one.mean_kld > bounds.kld else []),
            *(["its perplexity is lost"] if one.perplexity_ratio > bounds.perplexity else []),
        ]
        yield Verdict(
            gate="long-context",
            passed=not lost,
            measured=f"{one.mean_kld:.4f} nats, perplexity × {one.perplexity_ratio:.4f}",
            bound=bound,
            reason=f"at the end of {one.context:,} tokens {' and '.join(lost) or 'it is as close as it has to be'}",
            value=one.mean_kld,
            limit=bounds.kld,
            ideal=0.0,
        )


def _tasks(found: Evaluation, bounds: Bounds) -> Iterator[Verdict]:
    if bounds.task is None:
        return
    judged = [_task(task, bounds.task) for task in found.tasks]
    if all(one.passed is None for one in judged):
        none = "none could be judged" if judged else "none was measured"
        reason = f"{none}: divergence and perplexity may reject a version, but never accept one"
        yield Verdict(gate="tasks", passed=None, measured="–", bound=f"≤ {bounds.task:g} points lost", reason=reason)
    yield from judged


def _task(task: Task, margin: float) -> Verdict:
    loss, proven = task.loss_points, task.p_value < CHANCE
    counted = f"{task.lost} lost, {task.gained} gained of {task.examples}"
    if task.unanswered:
        counted += f", {task.unanswered} not answered"
    if not task.examples:
        passed, reason = None, "it has no examples"
    elif not task.reference_correct and not task.candidate_correct:
        passed, reason = None, f"neither model has one of {task.examples} right, so none could be lost: ask easier ones"
    elif loss.value <= margin and loss.high <= margin:
        passed, reason = True, f"not worse by more than the margin: {counted}"
    elif loss.value <= margin:
        passed, reason = True, f"within the margin, though its interval is not: {counted}; more examples would tell"
    elif proven:
        passed, reason = False, f"answers are lost beyond chance (McNemar p = {task.p_value:.2g}): {counted}"
    else:
        passed, reason = None, f"the loss may be chance (McNemar p = {task.p_value:.2g}): {counted}; ask more examples"
    return Verdict(
        gate=f"task {task.name}",
        passed=passed,
        measured=f"{loss.value:+.2f} points lost ({loss.low:+.2f} to {loss.high:+.2f})",
        bound=f"≤ {margin:g} points lost",
        reason=reason,
        optional=passed is None and bool(task.examples),
        value=loss.value,
        limit=margin,
        ideal=0.0,
    )


def _robustness(found: Evaluation, bounds: Bounds) -> Iterator[Verdict]:
    if bounds.robustness is None:
        return
    wrong = [one for one in found.robustness if not one.ok]
    bound = f"≤ {bounds.robustness:g} of {len(found.robustness)} go wrong"
    if not found.robustness:
        yield Verdict(gate="robustness", passed=None, measured="–", bound=bound, reason=NOT_MEASURED)
        return
    yield Verdict(
        gate="robustness",
        passed=len(wrong) <= bounds.robustness,
        measured=f"{len(wrong)} of {len(found.robustness)} go wrong",
        bound=bound,
        reason="; ".join(f"{one.name}: {one.detail}" for one in wrong) or "it copes with what the reference copes with",
        value=float(len(wrong)),
        limit=bounds.robustness,
        ideal=0.0,
    )


def _schema(found: Evaluation, bounds: Bounds) -> Iterator[Verdict]:
    if bounds.schema is None:
        return
    if not found.schemas:
        bound = "no valid answer lost with structured outputs"
        yield Verdict(gate="schema", passed=None, measured="–", bound=bound, reason=NOT_MEASURED, optional=True)
    for one in found.schemas:
        yield _adherence(one, bounds.schema)


def _adherence(one: SchemaAdherence, margin: float) -> Verdict:
    allowed = 0.0 if one.mode == "guided" else margin
    lost = 100 * (one.reference_valid - one.candidate_valid) / one.asked if one.asked else 0.0
    how = "with structured outputs" if one.mode == "guided" else "when only prompted for it"
    return Verdict(
        gate=f"schema {one.mode}",
        passed=lost <= allowed if one.asked else None,
        measured=f"{one.candidate_valid} of {one.asked} valid, the reference {one.reference_valid}",
        bound=f"≤ {allowed:g} points lost",
        reason=f"{how}, {'no more' if lost <= allowed else 'more'} valid answers are lost than may be",
        optional=not one.asked,
        value=lost,
        limit=allowed,
        ideal=0.0,
    )


def _memory(found: Evaluation, bounds: Bounds) -> Iterator[Verdict]:
    if bounds.memory is None or not found.candidate.weight_bytes or not found.reference.weight_bytes:
        return
    ratio = found.candidate.weight_bytes / found.reference.weight_bytes
    yield Verdict(
        gate="memory",
        passed=ratio <= bounds.memory,
        measured=f"weights × {ratio:.3f}",
        bound=f"≤ × {bounds.memory:g}",
        reason=f"{found.candidate.weight_bytes:,} bytes of weights, the reference {found.reference.weight_bytes:,}",
        value=ratio,
        limit=bounds.memory,
    )


def _speed(found: Evaluation, bounds: Bounds) -> Iterator[Verdict]:
    if bounds.speed is None:
        return
    bound = f"≥ × {bounds.speed:g}"
    ratios = speed_ratios(found.reference_running, found.candidate_running)
    if not ratios:
        yield Verdict(gate="speed", passed=None, measured="–", bound=bound, reason=NOT_MEASURED)
    for batch, ratio in ratios.items():
        yield Verdict(
            gate=f"speed batch {batch}",
            passed=ratio >= bounds.speed,
            measured=f"× {ratio:.2f}",
            bound=bound,
            reason=f"output tokens per second at {batch} requests at a time, beside the reference's",
            value=ratio,
            limit=bounds.speed,
        )


def speed_ratios(reference: Running, candidate: Running) -> dict[int, float]:
    """Output tokens per second beside the reference's, by batch, where both were measured."""
    before = {one.batch: one.output_tokens_per_second for one in reference.speed}
    return {
        one.batch: one.output_tokens_per_second / before[one.batch] for one in candidate.speed if before.get(one.batch)
    }


GATES = (_floor, _divergence, _perplexity, _tasks, _long_context, _robustness, _schema, _memory, _speed)


def _judged(
    gate: str, measured: Interval | None, limit: float, *, ideal: float, shown: str, unit: str = "", meaning: str
) -> Verdict:
    """Larger is worse where the ideal is below the limit, smaller where it is above."""
    sign = 1.0 if ideal <= limit else -1.0
    bound = f"{'≤' if sign > 0 else '≥'} {shown.format(limit)}{unit}"
    if measured is None:
        return Verdict(gate=gate, passed=None, measured="–", bound=bound, reason=NOT_MEASURED)
    worst = measured.high if sign > 0 else measured.low
    beyond, worst_beyond = sign * (measured.value - limit), sign * (worst - limit)
    if beyond > 0:
        passed, reason = False, f"{meaning}: more is lost than may be"
        if sign * ((measured.low if sign > 0 else measured.high) - limit) <= 0:
            reason += ", though its interval reaches the bound; more text would tell for certain"
    elif worst_beyond <= 0:
        passed, reason = True, f"{meaning}: within the bound, and so is its interval"
    elif worst_beyond <= abs(limit - ideal):
        passed, reason = True, f"{meaning}: within the bound, though its interval is not; more text would tell"
    else:
        passed, reason = None, f"{meaning}: too little text to judge; measure more windows"
    interval = f"{shown.format(measured.low)} to {shown.format(measured.high)}".replace("× ", "")
    return Verdict(
        gate=gate,
        passed=passed,
        measured=f"{shown.format(measured.value)}{unit} ({interval})",
        bound=bound,
        reason=reason,
        value=measured.value,
        limit=limit,
        ideal=ideal,
    )


def _nats(interval: Interval) -> str:
    return f"{interval.value:.5f} nats (to {interval.high:.5f})"


def _at_most(value: float | None, unit: str) -> str:
    return "" if value is None else f"≤ {value:g}{unit}"


def _at_least(value: float | None) -> str:
    return "" if value is None else f"≥ {value:.2%} same top"
