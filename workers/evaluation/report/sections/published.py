"""The measurements beside what others have published for as many bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from workers.evaluation.report import expectations
from workers.evaluation.report.document import Cell, Section, Table
from workers.evaluation.report.expectations import Published, of_bits
from workers.evaluation.report.figures.canvas import Format
from workers.evaluation.report.numbers import NONE, number, percent, times
from workers.evaluation.report.versions import Candidate, bits, largest_batch, speedup, weights_ratio

Measure = tuple[str, Callable[[Candidate], float | None], Format, tuple[Published, ...], str]


def published(found: Sequence[Candidate]) -> Section | None:
    """None where no version has a number of bits that others have measured."""
    known = sorted({of for one in found if (of := bits(one.subject)) is not None}, reverse=True)
    batch = largest_batch([one.evaluation for one in found])
    rows = [row for measure in _measures(batch) if known and (row := _row(measure, found, known)) is not None]
    if not rows:
        return None
    columns = ("", *(one.label for one in found), *(f"published, {of} bits" for of in known), "of")
    return Section(
        "published",
        "Published figures",
        "Beside what others have measured",
        "Other models, other texts, other machines: the order of magnitude to expect at so many bits, no bound. Small"
        " models lose more, and gain less where their weights are not what they wait for.",
        tables=(Table("Published figures", columns, tuple(rows), "l" + "r" * (len(columns) - 2) + "l"),),
    )


def _measures(batch: int | None) -> tuple[Measure, ...]:
    llama = expectations.LLAMA_7B
    at = f" with {batch} requests" if batch else ""
    return (
        ("mean KLD", _kld, number, expectations.KLD, expectations.LLAMA_CPP),
        ("same top token", _same_top, percent, expectations.SAME_TOP, expectations.LLAMA_CPP),
        ("perplexity ratio", _perplexity, _ratio, expectations.PERPLEXITY_RATIO, f"{llama}, WikiText"),
        ("points lost in the worst task", _worst_task, number, expectations.POINTS_LOST, f"{llama}, MMLU"),
        ("memory saved", _saved, _whole, expectations.MEMORY_SAVED, "the number of bits"),
        (f"tokens per second{at}", lambda one: speedup(one, batch), times, expectations.SPEEDUP, f"{llama}, A100"),
    )


def _row(measure: Measure, found: Sequence[Candidate], known: Sequence[int]) -> tuple[Cell, ...] | None:
    name, take, form, others, whose = measure
    here = [take(one) for one in found]
    if all(value is None for value in here):
        return None
    mine = (Cell(NONE if value is None else form(value)) for value in here)
    theirs = (of_bits(others, of) for of in known)
    return (
        Cell(name),
        *mine,
        *(Cell(form(one.value), aside=one.label) if one else Cell(NONE) for one in theirs),
        Cell(whose),
    )


def _kld(one: Candidate) -> float | None:
    return one.evaluation.divergence.mean_kld.value if one.evaluation.divergence else None


def _same_top(one: Candidate) -> float | None:
    return one.evaluation.divergence.same_top.value if one.evaluation.divergence else None


def _perplexity(one: Candidate) -> float | None:
    return one.evaluation.perplexity.ratio.value if one.evaluation.perplexity else None


def _worst_task(one: Candidate) -> float | None:
    return max((task.loss_points.value for task in one.evaluation.tasks), default=None)


def _saved(one: Candidate) -> float | None:
    ratio = weights_ratio(one)
    return None if ratio is None else 1 - ratio


def _ratio(value: float) -> str:
    return number(value, 4)


def _whole(value: float) -> str:
    return percent(value, 0)
