"""What a candidate takes and gives: speed by batch, memory, and what each layer's bits are worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from workers.evaluation.report import expectations
from workers.evaluation.report.document import Cell, Figure, Section, Table
from workers.evaluation.report.figures.canvas import Format
from workers.evaluation.report.figures.heat import heat, mapped
from workers.evaluation.report.figures.lines import Series, lines
from workers.evaluation.report.figures.rows import Mark, Row, bars
from workers.evaluation.report.numbers import (
    change,
    counted,
    listed,
    milliseconds,
    number,
    size,
    spelled,
)
from workers.evaluation.report.versions import Candidate, Reference, bits, last_of, speed_at
from workers.evaluation.result import Layer, Memory, Running, Speed

SHOWN_LAYERS = 12
STEADY = 1.1  # times as fast as another measurement of the same is as steady as a machine that others use gets


def speed(found: Sequence[Candidate], references: Sequence[Reference]) -> Section | None:
    runs = [(one.label, "ref", one.running) for one in references if one.running.speed]
    runs += [(one.label, one.tone, one.evaluation.candidate_running) for one in found]
    runs = [run for run in runs if run[2].speed]
    if not any(tone != "ref" for _, tone, _ in runs):
        return None
    batches = sorted({one.batch for _, _, running in runs for one in running.speed})
    at = f"with {', '.join(map(str, batches))} requests at a time"

    def over(take: Callable[[Speed], float]) -> tuple[Series, ...]:
        return tuple(
            Series(label, tone, tuple((one.batch, take(one)) for one in running.speed), dashed=tone == "ref")
            for label, tone, running in runs
        )

    def figure(name: str, title: str, series: tuple[Series, ...], form: Format, marks: tuple[Mark, ...] = ()) -> Figure:
        ends = "; ".join(f"{one.label} {form(one.points[-1][1])}" for one in series if one.points)
        alt = f"{title} {at}. At the last: {ends}"
        return Figure(name, title, lambda width: lines(series, width, alt, "requests at a time", form, marks=marks))

    figures = [
        figure("speed-tokens", "Output tokens per second", over(lambda one: one.output_tokens_per_second), _short),
        figure("speed-first-token", "Time to the first token, median", over(lambda one: one.ttft_p50_ms), milliseconds),
        figure(
            "speed-inter-token", "Time between tokens, median", over(lambda one: one.inter_token_p50_ms), milliseconds
        ),
    ]
    ratios = _speedups(found)
    if ratios:
        fitting = {bits(one.subject) for one in found}
        marks = (
            Mark("reference", 1.0),
            *(Mark(f"{one.label} on A100", one.value) for one in expectations.SPEEDUP if one.bits in fitting),
        )
        figures.insert(1, figure("speed-ratio", "Tokens per second against the reference", ratios, _faster, marks))
    return Section(
        "speed",
        "Speed",
        "How fast it answers",
        "Through the engine that will serve it, so many requests at a time. The dashed line is the reference on the"
        f" same machine; “on A100” is {expectations.LLAMA_7B}, published.{_asked(found)}{_unsteady(references)}",
        tuple(figures),
        (_speed_table(runs),),
        folded=True,
    )


def _asked(found: Sequence[Candidate]) -> str:
    """How much was asked, where all evaluations asked the same and say so."""
    amounts = {
        tuple(
            one.evaluation.conditions.amount.get(f"speed_{name}")
            for name in ("prompt_tokens", "answer_tokens", "rounds")
        )
        for one in found
    }
    prompt, answer, rounds = amounts.pop() if len(amounts) == 1 else (None, None, None)
    if prompt is None or answer is None or rounds is None:
        return ""
    often = "once" if rounds == 1 else f"{spelled(rounds)} times"
    return f" Each request has {prompt:,} tokens and {answer:,} of answer, and each batch was sent {often}."


def _unsteady(references: Sequence[Reference]) -> str:
    """A warning where the reference, measured again for each version, was not as fast each time."""
    for one in references:
        most = max((last_of(run).batch for run in one.speeds), default=0)
        last = [last_of(run) for run in one.speeds if last_of(run).batch == most]
        speeds = sorted(speed.output_tokens_per_second for speed in last)
        if len(speeds) > 1 and speeds[-1] > speeds[0] * STEADY:
            return (
                f" The reference was measured {spelled(len(speeds))} times, at {number(speeds[0])} to"
                f" {number(speeds[-1])} tokens per second with {most} requests: smaller differences between"
                " versions say nothing."
            )
    return ""


def memory(found: Sequence[Candidate], references: Sequence[Reference]) -> Section | None:
    base = references[0].subject.weight_bytes if len(references) == 1 else 0
    weights = [
        Row(one.label, one.tone, one.subject.weight_bytes, _against(one.subject.weight_bytes, base, size))
        for one in (*references, *found)
        if one.subject.weight_bytes > 0
    ]
    held: list[tuple[str, str, Memory]] = [
        (one.label, one.tone, one.running.memory) for one in references if one.running.memory
    ]
    held += [
        (one.label, one.tone, one.evaluation.candidate_running.memory)
        for one in found
        if one.evaluation.candidate_running.memory
    ]
    if not weights and not held:
        return None
    alone = references[0].running.memory if len(references) == 1 else None
    peak = [
        Row(label, tone, part.peak_bytes, _against(part.peak_bytes, alone.peak_bytes if alone else 0, size))
        for label, tone, part in held
    ]
    room = [
        Row(label, tone, part.kv_tokens, _against(part.kv_tokens, alone.kv_tokens if alone else 0, _count))
        for label, tone, part in held
    ]
    shown = (
        _bars("memory-weights", "Weights", weights, "bytes of all weights, scales included", size),
        _bars("memory-peak", "Largest size while serving", peak, "memory of the engine, its cache included", size),
        _bars("memory-cache", "Room in the cache", room, "tokens of context that fit at once", _count),
    )
    return Section(
        "memory",
        "Memory",
        "How much memory it takes",
        "The engine's own account of its weights and its cache, and the largest it has been while it was measured.",
        tuple(one for one in shown if one),
    )


def sensitivity(found: Sequence[Candidate]) -> tuple[Section, ...]:
    return tuple(_sensitivity(one, place, len(found) > 1) for place, one in enumerate(found) if one.evaluation.layers)


def _held(layer: Layer) -> str:
    if layer.kept:
        return "kept"
    return f"{layer.bits} bits" if layer.bits else ""


def _sensitivity(one: Candidate, place: int, several: bool) -> Section:
    layers = sorted(one.evaluation.layers, key=lambda layer: -_rank(layer))
    kept = [layer.name for layer in layers if layer.kept]
    shown = layers[:SHOWN_LAYERS]
    rest = len(layers) - len(shown)
    rows = [
        Row(
            layer.name,
            one.tone,
            layer.mean_kld,
            number(layer.mean_kld, 2) + (f" · {_held(layer)}" if _held(layer) else ""),
        )
        for layer in shown
    ]
    name = f"sensitivity-{place + 1}"
    bar = _bars(name, "The most sensitive layers", rows, "nats per token when only this layer is quantized", _fine)
    figures = [bar] if bar else []
    found = mapped(layers)
    if len(found.blocks) > 1 and len(found.kinds) > 1:
        worst = layers[0].name
        said = counted(len(found.cells), "layer")
        alt = f"Map of {said}; the most sensitive is {worst}; kept: {listed(kept) or 'none'}"
        note = "A ring marks a layer that was kept." if kept else ""
        figures.insert(
            0, Figure(f"{name}-map", "Where it hurts", lambda width: heat(found, width, alt, one.tone), note)
        )
    table = Table(
        f"Sensitivity of the layers of {one.name}",
        ("layer", "mean KLD alone", "held at"),
        tuple((Cell(x.name), Cell(number(x.mean_kld)), Cell(_held(x))) for x in layers),
        "lrl",
    )
    many = f" Its {len(shown)} most sensitive of {len(layers)} are shown." if rest > 0 else ""
    return Section(
        name,
        "Layer sensitivity",
        "Which layers are sensitive" + (f": {one.name}" if several else ""),
        f"What quantizing each layer alone does to the model's output. {counted(len(kept), 'layer').capitalize()} kept"
        f" at the reference's precision.{many}",
        tuple(figures),
        (table,),
        folded=True,
    )


def _bars(name: str, title: str, rows: Sequence[Row], caption: str, form: Format) -> Figure | None:
    if not rows:
        return None
    alt = f"{title}: " + "; ".join(f"{row.label} {row.said}" for row in rows)
    return Figure(name, title, lambda width: bars(rows, width, alt, caption, form))


def _speedups(found: Sequence[Candidate]) -> tuple[Series, ...]:
    """Each against its own reference, measured beside it."""
    series: list[Series] = []
    for one in found:
        points: list[tuple[int, float]] = []
        for speed in one.evaluation.candidate_running.speed:
            base = speed_at(one.evaluation.reference_running, speed.batch)
            if base is not None and base.output_tokens_per_second > 0:
                points.append((speed.batch, speed.output_tokens_per_second / base.output_tokens_per_second))
        if points:
            series.append(Series(one.label, one.tone, tuple(points)))
    return tuple(series)


def _speed_table(runs: Sequence[tuple[str, str, Running]]) -> Table:
    rows = tuple(
        (
            Cell(label, tone=tone),
            Cell(str(one.batch)),
            Cell(number(one.output_tokens_per_second)),
            Cell(number(one.requests_per_second)),
            Cell(milliseconds(one.ttft_p50_ms)),
            Cell(milliseconds(one.ttft_p95_ms)),
            Cell(milliseconds(one.inter_token_p50_ms)),
        )
        for label, tone, running in runs
        for one in running.speed
    )
    columns = ("version", "batch", "tokens/s", "requests/s", "first token p50", "first token p95", "between tokens p50")
    return Table("Speed by batch", columns, rows, "lrrrrrr")


def _against(value: float, base: float, form: Format) -> str:
    said = form(value)
    return f"{said} · {change(value / base)}" if base > 0 and value != base else said


def _rank(layer: Layer) -> float:
    return math.inf if math.isnan(layer.mean_kld) else layer.mean_kld


def _faster(value: float) -> str:
    return f"{number(value)}×"


def _short(value: float) -> str:
    return number(value)


def _count(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else number(value)


def _fine(value: float) -> str:
    return number(value, 2)
