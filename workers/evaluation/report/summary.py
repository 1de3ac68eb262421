"""Each version in one line: for a terminal, and as numbers for a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workers.evaluation.report.numbers import change, finite, number, percent, points, times
from workers.evaluation.report.verdicts import short_verdict, stopped_by
from workers.evaluation.report.versions import Candidate, candidates, largest_batch, speedup, weights_ratio
from workers.evaluation.result import Evaluation

COLUMNS = (
    "version",
    "verdict",
    "weights",
    "tokens/s",
    "perplexity",
    "mean KLD",
    "same top",
    "worst task",
    "stopped by",
)


@dataclass(frozen=True, slots=True)
class Summary:
    """Ratios are to the reference, `speedup` at `batch` requests at a time; None is not measured."""

    version: str
    verdict: str
    passed: bool
    weights_ratio: float | None
    speedup: float | None
    batch: int | None
    perplexity_ratio: float | None
    mean_kld: float | None
    same_top: float | None
    worst_task_points: float | None
    stopped_by: tuple[str, ...]

    def document(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}

    def cells(self) -> tuple[str, ...]:
        """As COLUMNS has them."""
        lost = self.worst_task_points
        return (
            self.version,
            self.verdict,
            change(self.weights_ratio),
            times(self.speedup) + (f" at {self.batch}" if self.speedup is not None else ""),
            change(self.perplexity_ratio),
            number(self.mean_kld),
            percent(self.same_top),
            points(None if lost is None else -lost or 0.0),
            ", ".join(self.stopped_by),
        )


def summaries(evaluations: Sequence[Evaluation]) -> tuple[Summary, ...]:
    batch = largest_batch(evaluations)
    return tuple(_summary(one, batch) for one in candidates(evaluations))


def _summary(one: Candidate, batch: int | None) -> Summary:
    evaluation = one.evaluation
    divergence, perplexity = evaluation.divergence, evaluation.perplexity
    return Summary(
        version=one.name,
        verdict=short_verdict(evaluation),
        passed=one.passed,
        weights_ratio=weights_ratio(one),
        speedup=speedup(one, batch),
        batch=batch,
        perplexity_ratio=finite(perplexity.ratio.value) if perplexity else None,
        mean_kld=finite(divergence.mean_kld.value) if divergence else None,
        same_top=finite(divergence.same_top.value) if divergence else None,
        worst_task_points=finite(max((task.loss_points.value for task in evaluation.tasks), default=None)),
        stopped_by=tuple(verdict.gate for verdict in stopped_by(evaluation)),
    )
