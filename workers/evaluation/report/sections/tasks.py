"""Tasks with exact answers, paired by example: what was lost and what was gained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from workers.evaluation.report.document import Cell, Figure, Section, Table
from workers.evaluation.report.figures.rows import Row, lost_and_gained
from workers.evaluation.report.numbers import NONE, counted, percent, points, probability
from workers.evaluation.report.versions import Candidate
from workers.evaluation.result import Task

FIGURES_OF_TASKS = 6  # more of them go into one figure


def tasks(found: Sequence[Candidate]) -> Section | None:
    measured = [(one, task) for one in found for task in one.evaluation.tasks]
    if not measured:
        return None
    several = len(found) > 1
    # By task, so that versions stand below each other where they are compared.
    names = [task.name for _, task in measured]
    measured.sort(key=lambda pair: names.index(pair[1].name))
    every = tuple(dict.fromkeys(names))
    apart = several and len(every) <= FIGURES_OF_TASKS
    figures = [
        _flips(
            place,
            f"Answers lost and gained: {name}" if apart else "Answers lost and gained",
            [
                (_task_row(one, task, several and not apart, several), task.lost, task.gained)
                for one, task in measured
                if not apart or task.name == name
            ],
        )
        for place, name in enumerate(every if apart else every[:1], 1)
    ]
    figures[0] = replace(figures[0], numbers=_task_numbers(measured))
    flips = sum(task.flips for _, task in measured)
    return Section(
        "tasks",
        "Task accuracy",
        "What it answers differently",
        f"The same examples asked of both: {counted(flips, 'answer')} changed. Full bars are answers that only the"
        " reference has right, pale ones those that only the version has; p is McNemar's exact one-sided test of a"
        " loss. An accuracy that stands still can hide as many of either.",
        tuple(figures),
    )


def _flips(place: int, title: str, rows: list[tuple[Row, int, int]]) -> Figure:
    alt = f"{title}. " + "; ".join(
        f"{row.label} lost {lost}, gained {gained} ({row.said})" for row, lost, gained in rows
    )
    return Figure(f"tasks-{place}", title, lambda width: lost_and_gained(rows, width, alt))


def _task_numbers(measured: Sequence[tuple[Candidate, Task]]) -> Table:
    return Table(
        "Tasks, paired by example",
        ("task", "version", "examples", "reference right", "version right", "lost", "gained", "p of a loss", "points"),
        tuple(
            (
                Cell(task.name),
                Cell(one.label, tone=one.tone),
                Cell(f"{task.examples:,}"),
                Cell(_of(task.reference_correct, task.examples)),
                Cell(_of(task.candidate_correct, task.examples)),
                Cell(f"{task.lost:,}"),
                Cell(f"{task.gained:,}"),
                Cell(probability(task.p_value)),
                Cell(
                    f"{points(_gain(task.loss_points.value))} ({points(_gain(task.loss_points.high))} to"
                    f" {points(_gain(task.loss_points.low))})"
                ),
            )
            for one, task in measured
        ),
        "llrrrrrrr",
    )


def _task_row(one: Candidate, task: Task, both: bool, several: bool) -> Row:
    label = f"{task.name} · {one.label}" if both else one.label if several else task.name
    said = f"{_of(task.reference_correct, task.examples)} → {_of(task.candidate_correct, task.examples)}"
    return Row(label, one.tone, None, f"{said}, p {probability(task.p_value)}".replace("p <", "p<"))


def _of(correct: int, examples: int) -> str:
    return percent(correct / examples) if examples > 0 else NONE


def _gain(loss: float) -> float:
    return -loss if loss else 0.0
