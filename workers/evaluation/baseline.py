"""A regression gate: an evaluation against an earlier one of the same version, as a build keeps it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace

from workers.errors import WrongUsage
from workers.evaluation.result import WINDOWS, Evaluation, Verdict


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How much worse than the baseline is still no regression, as shares of 1; None where it is not compared."""

    kld: float | None = 0.25  # of the baseline's divergence; what the reference differs from itself by is always free
    same_top: float | None = 0.01  # of all positions
    perplexity: float | None = 0.005
    task: float | None = 0.01  # of all examples
    speed: float | None = 0.10  # output tokens per second
    latency: float | None = 0.25  # median time to the first token
    memory: float | None = 0.05


NAMES = tuple(field.name.replace("_", "-") for field in fields(Tolerances))


def changed(tolerances: Tolerances, written: Mapping[str, str]) -> Tolerances:
    """With what a user wrote instead: `10%`, `0.1` or `off`. Raises WrongUsage."""
    found: dict[str, float | None] = {}
    for name, text in written.items():
        if name not in NAMES:
            raise WrongUsage(f"no tolerance is called {name}; there are: {', '.join(NAMES)}")
        try:
            number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            number = -1.0
        if text != "off" and not 0 <= number < float("inf"):
            raise WrongUsage(f"tolerance {name}: {text} is none; write a share such as 10%, or off")
        found[name.replace("-", "_")] = None if text == "off" else number
    return replace(tolerances, **found)


def verdicts(now: Evaluation, before: Evaluation, tolerances: Tolerances) -> tuple[Verdict, ...]:
    """One per thing that the baseline has. What it has and this evaluation has not could not be judged, nor could what
    was measured under other conditions."""
    return (
        *_accuracy(now, before, tolerances),
        *_tasks(now, before, tolerances.task),
        *_speed(now, before, tolerances),
        *_memory(now, before, tolerances.memory),
    )


def _accuracy(now: Evaluation, before: Evaluation, tolerances: Tolerances) -> Iterator[Verdict]:
    """Only on the same text against the same reference do these numbers mean the same."""
    other = _other_text(now, before)
    if before.divergence and tolerances.kld is not None:
        was = before.divergence.mean_kld.value
        free = max((one.floor.mean_kld.high for one in (now, before) if one.floor), default=0.0)
        limit = was + max(free, tolerances.kld * was)
        is_now = now.divergence and now.divergence.mean_kld.value
        yield _compared("divergence", was, is_now, limit, "nats", other)
    if before.divergence and tolerances.same_top is not None:
        was = before.divergence.same_top.value
        is_now = now.divergence and now.divergence.same_top.value
        yield _compared("same-top", was, is_now, was - tolerances.same_top, "of positions", other)
    if before.perplexity and tolerances.perplexity is not None:
        was = before.perplexity.ratio.value
        is_now = now.perplexity and now.perplexity.ratio.value
        yield _compared("perplexity", was, is_now, was * (1 + tolerances.perplexity), "× the reference's", other)


def _tasks(now: Evaluation, before: Evaluation, tolerance: float | None) -> Iterator[Verdict]:
    if tolerance is None:
        return
    found = {task.name: task for task in now.tasks}
    for task in before.tasks:
        if not task.examples:
            continue
        same = found.get(task.name)
        was = task.candidate_correct / task.examples
        is_now = same.candidate_correct / same.examples if same and same.examples else None
        asked = before.conditions.texts.get(task.name), now.conditions.texts.get(task.name)
        other = "other examples were asked" if same and asked[0] != asked[1] else ""
        yield _compared(f"task {task.name}", was, is_now, was - tolerance, "of examples", other)


def _speed(now: Evaluation, before: Evaluation, tolerances: Tolerances) -> Iterator[Verdict]:
    other = _other_device(now, before)
    found = {one.batch: one for one in now.candidate_running.speed}
    for one in before.candidate_running.speed:
        same = found.get(one.batch)
        if tolerances.speed is not None:
            was = one.output_tokens_per_second
            is_now = same and same.output_tokens_per_second
            yield _compared(
                f"speed batch {one.batch}", was, is_now, was * (1 - tolerances.speed), "output tokens/s", other
            )
        if tolerances.latency is not None:
            is_now = same and same.ttft_p50_ms
            limit = one.ttft_p50_ms * (1 + tolerances.latency)
            yield _compared(f"latency batch {one.batch}", one.ttft_p50_ms, is_now, limit, "ms to first token", other)


def _memory(now: Evaluation, before: Evaluation, tolerance: float | None) -> Iterator[Verdict]:
    was, is_now = before.candidate_running.memory, now.candidate_running.memory
    if tolerance is None or was is None:
        return
    other = _other_device(now, before)
    more, less = 1 + tolerance, 1 - tolerance
    if was.weight_bytes:
        is_bytes = is_now and is_now.weight_bytes
        yield _compared("memory weights", was.weight_bytes, is_bytes, was.weight_bytes * more, "bytes", "")
    if was.kv_tokens:
        is_tokens = is_now and is_now.kv_tokens
        yield _compared("memory cache", was.kv_tokens, is_tokens, was.kv_tokens * less, "tokens", other)
    if was.peak_bytes:
        is_bytes = is_now and is_now.peak_bytes
        yield _compared("memory peak", was.peak_bytes, is_bytes, was.peak_bytes * more, "bytes", other)


def _other_text(now: Evaluation, before: Evaluation) -> str:
    if now.conditions.texts.get(WINDOWS) != before.conditions.texts.get(WINDOWS):
        return "it was measured on other text"
    if now.reference.digest != before.reference.digest:
        return "it was measured against another reference"
    return ""


def _other_device(now: Evaluation, before: Evaluation) -> str:
    if now.conditions.device == before.conditions.device:
        return ""
    return f"it was measured on another device ({before.conditions.device}, this is {now.conditions.device})"


def _compared(what: str, was: float, is_now: float | None, limit: float, unit: str, other: str) -> Verdict:
    """Whether `is_now` is on the good side of `limit`, which is on the bad side of `was`."""
    sign = 1.0 if limit >= was else -1.0
    passed: bool | None = None
    if other:
        reason = f"the baseline can not be compared: {other}; store a new one with this evaluation"
    elif is_now is None:
        reason = "the baseline has it, this evaluation has not"
    else:
        passed = sign * (is_now - limit) <= 1e-12 * abs(limit)
        change = f" ({is_now / was - 1:+.1%})" if was else ""
        reason = f"{'no more lost than the tolerance allows' if passed else 'lost against the baseline'}{change}"
    return Verdict(
        gate=f"baseline {what}",
        passed=passed,
        measured="–" if is_now is None else f"{_shown(is_now)} {unit}",
        bound=f"{'≤' if sign > 0 else '≥'} {_shown(limit)} {unit}",
        reason=reason,
        value=is_now,
        limit=limit,
        ideal=was,
    )


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
