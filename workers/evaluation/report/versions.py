"""The versions that a report compares: candidates and what they were measured against, each named and coloured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from workers.evaluation.report.numbers import finite
from workers.evaluation.report.palette import VERSIONS
from workers.evaluation.result import Evaluation, Running, Speed, Subject


@dataclass(frozen=True, slots=True)
class Reference:
    """What candidates were measured against. `speeds` are all measurements of its speed, `running` has the median."""

    name: str
    label: str
    subject: Subject
    running: Running
    speeds: tuple[tuple[Speed, ...], ...] = ()
    tone: str = "ref"


@dataclass(frozen=True, slots=True)
class Candidate:
    name: str  # unique in the report
    label: str  # for plots: without what all names have in common
    tone: str
    evaluation: Evaluation

    @property
    def subject(self) -> Subject:
        return self.evaluation.candidate

    @property
    def passed(self) -> bool:
        return self.evaluation.passed


def candidates(evaluations: Sequence[Evaluation]) -> tuple[Candidate, ...]:
    names = _unique([one.candidate.name or "(unnamed)" for one in evaluations])
    labels = _short(names)
    return tuple(
        Candidate(name, label, f"c{place % VERSIONS}", one)
        for place, (name, label, one) in enumerate(zip(names, labels, evaluations, strict=True))
    )


def references(evaluations: Sequence[Evaluation]) -> tuple[Reference, ...]:
    """Each once; two are the same by their digest, or without one by name and place."""
    found: dict[str, list[Evaluation]] = {}
    for one in evaluations:
        subject = one.reference
        key = subject.digest or "\n".join((subject.name, subject.artifact or "", subject.endpoint or ""))
        found.setdefault(key, []).append(one)
    groups = list(found.values())
    names = _unique([group[0].reference.name or "(unnamed)" for group in groups])
    return tuple(
        Reference(
            name,
            "reference" if len(groups) == 1 else f"reference {name}",
            group[0].reference,
            Running(
                speed=_middle([one.reference_running.speed for one in group if one.reference_running.speed]),
                memory=next((one.reference_running.memory for one in group if one.reference_running.memory), None),
            ),
            tuple(one.reference_running.speed for one in group if one.reference_running.speed),
        )
        for name, group in zip(names, groups, strict=True)
    )


def _middle(runs: Sequence[tuple[Speed, ...]]) -> tuple[Speed, ...]:
    """The median of several measurements, by how fast the largest batch was."""
    in_order = sorted(runs, key=lambda run: last_of(run).output_tokens_per_second)
    return in_order[(len(in_order) - 1) // 2] if in_order else ()


def last_of(run: Sequence[Speed]) -> Speed:
    """At the largest batch."""
    return max(run, key=lambda one: one.batch)


def speed_at(running: Running, batch: int) -> Speed | None:
    return next((one for one in running.speed if one.batch == batch), None)


def largest_batch(evaluations: Sequence[Evaluation]) -> int | None:
    """The largest at which all were measured, or else the largest at which any was."""
    measured: list[set[int]] = [
        {one.batch for one in running.speed}
        for evaluation in evaluations
        for running in (evaluation.candidate_running, evaluation.reference_running)
        if running.speed
    ]
    if not measured:
        return None
    return max(set[int].intersection(*measured) or set[int].union(*measured))


def speedup(one: Candidate, batch: int | None) -> float | None:
    """Output tokens per second against the reference's at this batch."""
    mine = speed_at(one.evaluation.candidate_running, batch) if batch else None
    base = speed_at(one.evaluation.reference_running, batch) if batch else None
    if mine is None or base is None or not base.output_tokens_per_second:
        return None
    return finite(mine.output_tokens_per_second / base.output_tokens_per_second)


def weights_ratio(one: Candidate) -> float | None:
    base = one.evaluation.reference.weight_bytes
    return one.subject.weight_bytes / base if base > 0 and one.subject.weight_bytes > 0 else None


def bits(subject: Subject) -> int | None:
    """Of the weights that a version quantizes; None for the unquantized and for mixtures."""
    return {"fp8": 8, "w8a8": 8, "w4a16": 4, "nf4": 4}.get(subject.quantization)


def _unique(names: list[str]) -> list[str]:
    many = Counter(names)
    seen: Counter[str] = Counter()
    found: list[str] = []
    for name in names:
        seen[name] += 1
        found.append(f"{name} ({seen[name]})" if many[name] > 1 else name)
    return found


def _short(names: list[str]) -> list[str]:
    """`int8` for `scribe@int8` where all are versions of one model."""
    models = {name.partition("@")[0] for name in names}
    shorter = [name.partition("@")[2] for name in names]
    return shorter if len(models) == 1 and all(shorter) and len(set(shorter)) == len(names) else names
