"""Is it worth it: quality against memory and against speed."""

from __future__ import annotations

from collections.abc import Sequence

from workers.evaluation.report.document import Cell, Figure, Section, Table
from workers.evaluation.report.figures.canvas import Format
from workers.evaluation.report.figures.scatter import Point, on_front, scatter
from workers.evaluation.report.numbers import finite, listed, number, size
from workers.evaluation.report.versions import Candidate, Reference, largest_batch, speed_at
from workers.evaluation.result import Running

Version = Candidate | Reference


def tradeoff(found: Sequence[Candidate], references: Sequence[Reference]) -> Section | None:
    name, losses = _losses(found)
    versions: list[Version] = [*references, *found]
    batch = largest_batch([one.evaluation for one in found])
    figures = [
        _figure("quality-memory", "Quality against memory", name, versions, losses, _weights(versions), size, False)
    ]
    if batch is not None:
        speeds = _speeds(versions, batch)
        title = f"Quality against speed, {batch} at a time"
        figures.append(_figure("quality-speed", title, name, versions, losses, speeds, number, True))
    drawn = tuple(one for one in figures if one is not None)
    if not drawn:
        return None
    return Section(
        "tradeoff",
        "Trade-off",
        "What it costs, what it brings",
        f"Each point is a version; higher is closer to the reference, by {name}. The dotted steps are the Pareto front:"
        " nothing measured here is better in both respects than what lies on it. A disc may serve, a crossed ring may"
        " not, the square is the reference.",
        drawn,
    )


def _losses(found: Sequence[Candidate]) -> tuple[str, dict[str, float]]:
    """The measure that most have, the divergence where as many have either."""
    divergences = {
        one.name: max(0.0, value)
        for one in found
        if one.evaluation.divergence and (value := finite(one.evaluation.divergence.mean_kld.value)) is not None
    }
    perplexities = {
        one.name: max(0.0, value - 1)
        for one in found
        if one.evaluation.perplexity and (value := finite(one.evaluation.perplexity.ratio.value)) is not None
    }
    if len(perplexities) > len(divergences):
        return "how much perplexity rose", perplexities
    return "mean KL divergence (nats)", divergences


def _weights(versions: Sequence[Version]) -> dict[str, float]:
    return {_key(one): float(one.subject.weight_bytes) for one in versions if one.subject.weight_bytes > 0}


def _speeds(versions: Sequence[Version], batch: int) -> dict[str, float]:
    measured = {_key(one): speed_at(_running(one), batch) for one in versions}
    return {key: speed.output_tokens_per_second for key, speed in measured.items() if speed is not None}


def _figure(
    name: str,
    title: str,
    measure: str,
    versions: Sequence[Version],
    losses: dict[str, float],
    across: dict[str, float],
    form: Format,
    more_is_better: bool,
) -> Figure | None:
    points: list[Point] = []
    missing: list[str] = []
    for one in versions:
        loss = 0.0 if isinstance(one, Reference) else losses.get(one.name)
        x = finite(across.get(_key(one)))
        if loss is None or x is None:
            missing.append(one.label)
        else:
            points.append(Point(one.label, one.tone, x, loss, one.passed if isinstance(one, Candidate) else None))
    if not any(one.passed is not None for one in points):
        return None
    best = [one.label for one in on_front(points, more_is_better=more_is_better)]
    caption = "output tokens per second" if more_is_better else "size of the weights"
    alt = f"{title}. On the Pareto front: {listed(best)}."
    unit = "tokens/s" if more_is_better else "weights"
    rows = tuple(
        (
            Cell(one.label, tone=one.tone),
            Cell(form(one.x)),
            Cell(number(one.loss)),
            Cell("yes" if one.label in best else ""),
        )
        for one in points
    )
    return Figure(
        name,
        title,
        lambda width: scatter(
            points,
            width,
            alt,
            x_caption=caption,
            y_caption=measure,
            x_form=form,
            more_is_better=more_is_better,
        ),
        note=f"Not measured: {listed(missing)}." if missing else "",
        numbers=Table(title, ("version", unit, measure, "on the front"), rows, "lrrl"),
    )


def _key(one: Version) -> str:
    return one.name if isinstance(one, Candidate) else f"\0{one.name}"


def _running(one: Version) -> Running:
    return one.evaluation.candidate_running if isinstance(one, Candidate) else one.running
