"""The same measures at the end of long texts."""

from __future__ import annotations

from collections.abc import Sequence

from workers.evaluation.report.document import Cell, Figure, Section, Table
from workers.evaluation.report.figures.lines import Series, lines
from workers.evaluation.report.figures.rows import Mark
from workers.evaluation.report.numbers import change, number, percent, rise
from workers.evaluation.report.versions import Candidate
from workers.evaluation.result import LongContext

WINDOW = "window_tokens"  # what an evaluation's conditions call the length of its windows of text


def long_context(found: Sequence[Candidate]) -> Section | None:
    measured = [one for one in found if one.evaluation.long_context]
    if not measured:
        return None
    contexts = sorted({part.context for one in measured for part in one.evaluation.long_context})
    steps = f"at the end of {', '.join(f'{one:,}' for one in contexts)} tokens"
    divergences = tuple(
        Series(one.label, one.tone, (*_start(one, _mean_kld(one)), *((x.context, x.mean_kld) for x in _parts(one))))
        for one in measured
    )
    risen = tuple(
        Series(
            one.label,
            one.tone,
            (*_start(one, _ratio(one)), *((x.context, x.perplexity_ratio - 1) for x in _parts(one))),
        )
        for one in measured
    )
    begun = any(_start(one, 0.0) for one in measured)
    wide = any(value > 0.5 for one in risen for _, value in one.points)
    last = [
        f"{one.label} {number(part.mean_kld, 2)} nats at {part.context:,} tokens"
        for one in measured
        for part in _parts(one)[-1:]
    ]
    rises = [
        f"{one.label} {change(part.perplexity_ratio)} at {part.context:,} tokens"
        for one in measured
        for part in _parts(one)[-1:]
    ]
    numbers = Table(
        "Long context",
        ("version", "context", "mean KLD", "same top token", "perplexity ratio", "tokens"),
        tuple(
            (
                Cell(one.label, tone=one.tone),
                Cell(f"{part.context:,}"),
                Cell(number(part.mean_kld)),
                Cell(percent(part.same_top)),
                Cell(number(part.perplexity_ratio, 5)),
                Cell(f"{part.tokens:,}"),
            )
            for one in measured
            for part in _parts(one)
        ),
        "lrrrrr",
    )
    return Section(
        "long-context",
        "Long context",
        "At the end of long texts",
        "Errors of a quantized cache and of attention add up over a context, so the same measures are taken where it"
        " ends. A flat line is a version that keeps its quality."
        + (" Each begins with its average over the shorter windows of text above." if begun else ""),
        (
            Figure(
                "long-context",
                "Mean KL divergence",
                lambda width: lines(
                    divergences,
                    width,
                    f"Divergence {steps}: {'; '.join(last)}",
                    "tokens of context",
                    lambda value: number(value, 1),
                    axis="log",
                    step_form="{:,}".format,
                ),
                numbers=numbers,
            ),
            Figure(
                "long-context-perplexity",
                "Change of perplexity",
                lambda width: lines(
                    risen,
                    width,
                    f"Change of perplexity {steps}: {'; '.join(rises)}",
                    f"tokens of context{'; logarithmic' if wide else ''}",
                    rise,
                    axis="log" if wide else "around",
                    step_form="{:,}".format,
                    marks=() if wide else (Mark("no loss", 0.0),),
                ),
            ),
        ),
    )


def _parts(one: Candidate) -> tuple[LongContext, ...]:
    return tuple(sorted(one.evaluation.long_context, key=lambda part: part.context))


def _start(one: Candidate, average: float | None) -> tuple[tuple[int, float], ...]:
    """Where the curve begins: the average over windows that are shorter than every context."""
    window = one.evaluation.conditions.amount.get(WINDOW)
    if average is None or window is None or window >= _parts(one)[0].context:
        return ()
    return ((window, average),)


def _mean_kld(one: Candidate) -> float | None:
    return one.evaluation.divergence.mean_kld.value if one.evaluation.divergence else None


def _ratio(one: Candidate) -> float | None:
    return one.evaluation.perplexity.ratio.value - 1 if one.evaluation.perplexity else None
