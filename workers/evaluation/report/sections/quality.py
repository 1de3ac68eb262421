"""How close a candidate stays to the reference: divergence and perplexity."""

from __future__ import annotations

from collections.abc import Sequence

from workers.evaluation.report import expectations
from workers.evaluation.report.document import Cell, Figure, Section, Table
from workers.evaluation.report.expectations import Published
from workers.evaluation.report.figures.canvas import Format
from workers.evaluation.report.figures.rows import Mark, Row, intervals
from workers.evaluation.report.numbers import (
    NONE,
    change,
    finite,
    listed,
    number,
    percent,
    rise,
)
from workers.evaluation.report.versions import Candidate, bits
from workers.evaluation.result import Interval


def divergence(found: Sequence[Candidate]) -> Section | None:
    measured = [(one, one.evaluation.divergence) for one in found if one.evaluation.divergence]
    if not measured:
        return None
    closest = min(measured, key=lambda pair: pair[1].mean_kld.value)
    nearest = f" Closest here: {closest[0].label}." if len(measured) > 1 else ""
    rows = tuple(
        Row(
            one.label,
            one.tone,
            part.mean_kld.value,
            _between(part.mean_kld, lambda value: number(value, 2)),
            part.mean_kld.low,
            part.mean_kld.high,
            bound=_bound(one, "divergence"),
            floor=one.evaluation.floor.mean_kld.high if one.evaluation.floor else None,
        )
        for one, part in measured
    )
    same = tuple(
        Row(
            one.label,
            one.tone,
            part.same_top.value,
            _between(part.same_top, percent),
            part.same_top.low,
            part.same_top.high,
            bound=_bound(one, "same-top"),
        )
        for one, part in measured
    )
    worst = max((part.mean_kld.value for _, part in measured), default=0.0)
    marks = _marks(expectations.KLD, worst > 0.1)
    same_marks = _marks(expectations.SAME_TOP, worst > 0.1)
    alt = "Mean KL divergence: " + "; ".join(f"{row.label} {row.said}" for row in rows)
    same_alt = "Same most probable token: " + "; ".join(f"{row.label} {row.said}" for row in same)
    numbers = Table(
        "Divergence from the reference",
        ("version", "mean KLD", "99th percentile", "largest", "same top token", "floor", "tokens"),
        tuple(
            (
                Cell(one.label, tone=one.tone),
                Cell(_between(part.mean_kld, number)),
                Cell(number(part.p99_kld)),
                Cell(number(part.max_kld)),
                Cell(_between(part.same_top, lambda value: percent(value, 2))),
                Cell(number(one.evaluation.floor.mean_kld.value) if one.evaluation.floor else NONE),
                Cell(f"{part.tokens:,}"),
            )
            for one, part in measured
        ),
        "lrrrrrr",
    )
    tops = sorted({part.top_k for _, part in measured})
    return Section(
        "divergence",
        "Divergence",
        "How far its predictions moved",
        "KL divergence of the next token's probabilities from the reference's over the same text, a lower bound from"
        f" the top {listed([str(one) for one in tops])} of both. It can reject a version; it proves none good. Lines"
        " are 95 % confidence intervals, the red stroke is the gate's bound, the grey field what the reference shows"
        f" against itself. Dotted: {expectations.LLAMA_CPP}.{nearest}",
        (
            Figure(
                "divergence",
                "Mean KL divergence",
                lambda width: intervals(
                    rows,
                    width,
                    alt,
                    "nats per token, logarithmic; less is better",
                    lambda value: number(value, 1),
                    axis="log",
                    marks=marks,
                ),
                numbers=numbers,
            ),
            Figure(
                "same-top",
                "Same most probable token",
                lambda width: intervals(
                    same,
                    width,
                    same_alt,
                    "share of positions, logarithmic in what is missing; more is better",
                    _whole,
                    axis="closeness",
                    marks=same_marks,
                ),
            ),
        ),
    )


def perplexity(found: Sequence[Candidate]) -> Section | None:
    measured = [(one, one.evaluation.perplexity) for one in found if one.evaluation.perplexity]
    if not measured:
        return None
    rows = tuple(
        Row(
            one.label,
            one.tone,
            part.ratio.value - 1,
            f"{change(part.ratio.value)} ({number(part.reference)} → {number(part.candidate)})",
            part.ratio.low - 1,
            part.ratio.high - 1,
            bound=None if (bound := _bound(one, "perplexity")) is None else bound - 1,
        )
        for one, part in measured
    )
    worst = max((part.ratio.value for _, part in measured if finite(part.ratio.value) is not None), default=1.0)
    wide = worst > 1.2
    fitting = {bits(one.subject) for one in found}
    marks = tuple(
        Mark(f"{one.label} of {expectations.LLAMA_7B}", one.value - 1)
        for one in expectations.PERPLEXITY_RATIO
        if one.bits in fitting or worst > one.value
    )
    alt = "Perplexity against the reference: " + "; ".join(f"{row.label} {row.said}" for row in rows)
    numbers = Table(
        "Perplexity",
        ("version", "reference", "candidate", "ratio", "95 % interval", "tokens"),
        tuple(
            (
                Cell(one.label, tone=one.tone),
                Cell(number(part.reference, 4)),
                Cell(number(part.candidate, 4)),
                Cell(number(part.ratio.value, 5)),
                Cell(f"{number(part.ratio.low, 5)} to {number(part.ratio.high, 5)}"),
                Cell(f"{part.tokens:,}"),
            )
            for one, part in measured
        ),
        "lrrrrr",
    )
    return Section(
        "perplexity",
        "Perplexity",
        "How well it predicts text",
        "Perplexity of held-out text against the reference's, paired by window. Lines are 95 % confidence intervals,"
        f" the red stroke is the gate's bound. Dotted: what {expectations.LLAMA_7B} lost on WikiText at as many bits.",
        (
            Figure(
                "perplexity",
                "Change of perplexity",
                lambda width: intervals(
                    rows,
                    width,
                    alt,
                    f"change of perplexity{', logarithmic' if wide else ''}; less is better",
                    rise,
                    axis="log" if wide else "around",
                    marks=marks,
                ),
                numbers=numbers,
            ),
        ),
    )


def _between(part: Interval, form: Format) -> str:
    unit = "\u202f%" if form(part.low).endswith("\u202f%") else ""
    return f"{form(part.value)} ({form(part.low).removesuffix(unit)}–{form(part.high)})"


def _bound(one: Candidate, gate: str) -> float | None:
    return next((verdict.limit for verdict in one.evaluation.verdicts if verdict.gate == gate), None)


def _marks(published: tuple[Published, ...], far: bool) -> tuple[Mark, ...]:
    """The published values near which there is something to compare."""
    return tuple(Mark(one.label, one.value) for one in published if far or one.bits > 2)


def _whole(share: float) -> str:
    return f"{number(share * 100, 4)}\u202f%"
