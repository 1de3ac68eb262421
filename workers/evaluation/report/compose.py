"""A report from evaluations: the verdict first, then what it rests on, what it was measured with at the end."""

from __future__ import annotations

from collections.abc import Sequence

from workers.errors import WrongUsage
from workers.evaluation.report.document import Card, Fact, Report
from workers.evaluation.report.numbers import (
    NONE,
    change,
    listed,
    number,
    percent,
    points,
    size,
    times,
)
from workers.evaluation.report.sections.cost import memory, sensitivity, speed
from workers.evaluation.report.sections.lineage import lineage
from workers.evaluation.report.sections.long_context import long_context
from workers.evaluation.report.sections.published import published
from workers.evaluation.report.sections.quality import divergence, perplexity
from workers.evaluation.report.sections.robustness import robustness
from workers.evaluation.report.sections.tasks import tasks
from workers.evaluation.report.sections.tradeoff import tradeoff
from workers.evaluation.report.verdicts import (
    because,
    gate_table,
    gates_said,
    headline,
    short_verdict,
    stamp,
    standing,
    stopped_by,
)
from workers.evaluation.report.versions import (
    Candidate,
    candidates,
    largest_batch,
    references,
    speed_at,
    speedup,
    weights_ratio,
)
from workers.evaluation.result import Evaluation


def compose(evaluations: Sequence[Evaluation]) -> Report:
    """Raises WrongUsage where there is nothing to report on."""
    if not evaluations:
        raise WrongUsage("a report needs an evaluation; make one with: tollgate-worker evaluate")
    found, against = candidates(evaluations), references(evaluations)
    batch = largest_batch(evaluations)
    state, said = headline(found)
    parts = (
        tradeoff(found, against),
        divergence(found),
        perplexity(found),
        tasks(found),
        long_context(found),
        speed(found, against),
        memory(found, against),
        *sensitivity(found),
        robustness(found),
        published(found),
        lineage(found, against),
    )
    first = evaluations[0].conditions
    return Report(
        title=f"{said} – evaluation",
        state=state,
        stamp=stamp(found),
        headline=said,
        lead=_lead(found, batch),
        cards=tuple(_card(one, batch) for one in found),
        sections=tuple(part for part in parts if part is not None),
        made_with=f"Measured {first.at} with Tollgate {first.tollgate}, {first.engine}, on {first.device}.",
    )


def _lead(found: Sequence[Candidate], batch: int | None) -> str:
    if len(found) == 1:
        return " ".join(filter(None, (because(found[0].evaluation), _worth(found[0], batch))))
    allowed = [one for one in found if one.passed]
    said = [_stopped([one for one in found if not one.passed])] if len(allowed) < len(found) else []
    if len(allowed) > 1:
        said.append(_best(allowed, batch, all_of_them=len(allowed) == len(found)))
    elif allowed:
        said.append(_worth(allowed[0], batch, allowed[0].label))
    return " ".join(filter(None, said))


def _stopped(stopped: Sequence[Candidate]) -> str:
    """Each by the first gate that forbids it, those that failed before those that nothing has judged."""
    said: list[str] = []
    for state, words in (("fail", "Stopped"), ("open", "Not judged yet")):
        by_gate: dict[str, list[str]] = {}
        for one in stopped:
            if standing(one.evaluation) == state:
                gates = stopped_by(one.evaluation)
                by_gate.setdefault(f"by {gates[0].gate}" if gates else "by any gate", []).append(one.label)
        if by_gate:
            said.append(f"{words}: {'; '.join(f'{listed(names)} {gate}' for gate, names in by_gate.items())}.")
    return " ".join(said)


def _best(allowed: Sequence[Candidate], batch: int | None, all_of_them: bool) -> str:
    """Which of those that may serve is the best in what."""
    smallest = min(allowed, key=lambda one: one.subject.weight_bytes)
    speeds = [(ratio, one.label) for one in allowed if (ratio := speedup(one, batch)) is not None]
    close = [
        (one.evaluation.divergence.mean_kld.value, one.label)
        for one in allowed
        if one.evaluation.divergence is not None
    ]
    best: dict[str, list[str]] = {smallest.label: [f"the smallest ({size(smallest.subject.weight_bytes)})"]}
    if speeds:
        ratio, label = max(speeds)
        best.setdefault(label, []).append(f"the fastest ({times(ratio)} the reference)")
    if close:
        kld, label = min(close)
        best.setdefault(label, []).append(f"the closest to the reference ({number(kld, 2)} nats)")
    said = [f"{label} is {listed(in_what)}" for label, in_what in best.items()]
    return f"{'; '.join(said)}." if all_of_them else f"Of those that may serve, {'; '.join(said)}."


def _worth(one: Candidate, batch: int | None, name: str = "It") -> str:
    """What it brings, in one sentence."""
    evaluation = one.evaluation
    said: list[str] = []
    weights, faster = weights_ratio(one), speedup(one, batch)
    if weights is not None:
        more = "less" if weights < 1 else "more"
        said.append(f"takes {percent(abs(1 - weights), 0)} {more} memory for its weights")
    if faster is not None:
        only = "only " if faster < 0.95 else ""
        said.append(f"writes {only}{times(faster)} as many tokens per second at {batch} requests at once")
    if evaluation.divergence:
        said.append(f"agrees on the next token {percent(evaluation.divergence.same_top.value)} of the time")
    return f"{name} {listed(said)}, against {evaluation.reference.name}." if said else ""


def _card(one: Candidate, batch: int | None) -> Card:
    evaluation = one.evaluation
    return Card(
        one.name,
        one.tone,
        standing(evaluation),
        short_verdict(evaluation),
        because(evaluation),
        _facts(one, batch),
        gate_table(one),
        gates_said(evaluation),
    )


def _facts(one: Candidate, batch: int | None) -> tuple[Fact, ...]:
    evaluation = one.evaluation
    facts = [
        Fact(
            change(weights_ratio(one)),
            "weights",
            f"{size(one.subject.weight_bytes)}, not {size(evaluation.reference.weight_bytes)}",
        )
    ]
    mine = speed_at(evaluation.candidate_running, batch) if batch else None
    if mine is not None:
        detail = f"{number(mine.output_tokens_per_second)} at {batch} requests"
        facts.append(Fact(times(speedup(one, batch)), "tokens per second", detail))
    if part := evaluation.perplexity:
        facts.append(
            Fact(change(part.ratio.value), "perplexity", f"{number(part.reference)} → {number(part.candidate)}")
        )
    if part := evaluation.divergence:
        floor = evaluation.floor
        detail = f"reference against itself: {number(floor.mean_kld.value, 2)}" if floor else ""
        facts.append(Fact(number(part.mean_kld.value, 2), "mean KLD, nats", detail))
        facts.append(Fact(percent(part.same_top.value), "same next token", f"of {part.tokens:,} positions"))
    if evaluation.tasks:
        worst = max(evaluation.tasks, key=lambda task: (task.loss_points.value, task.lost))
        detail = f"points in {worst.name}: {worst.lost} lost, {worst.gained} gained"
        facts.append(Fact(points(-worst.loss_points.value or 0.0), "worst task", detail))
    return tuple(fact for fact in facts if fact.value != NONE)
