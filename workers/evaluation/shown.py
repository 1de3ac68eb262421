"""An evaluation as a terminal shows it. Pure."""

from __future__ import annotations

from workers.evaluation.gates import speed_ratios
from workers.evaluation.result import Evaluation, Verdict

MARKS = {True: "passed", False: "FAILED", None: "unjudged"}


def table(found: Evaluation) -> str:
    """What was measured in a few lines, every verdict, those that are not passed with their reason, and the sum."""
    rows = [_row(verdict) for verdict in found.verdicts]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    lines: list[str] = []
    for row, verdict in zip(rows, found.verdicts, strict=True):
        lines.append("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if not verdict.passed:
            lines.append(f"  {' ' * widths[0]}  {verdict.reason}")
    head = f"{found.candidate.name} ({found.candidate.quantization}) against {found.reference.name}"
    return "\n".join(
        [f"{head}, {_conditions(found)}", *(f"  {line}" for line in _measures(found)), "", *lines, "", _sum(found)]
    )


def _row(verdict: Verdict) -> tuple[str, str, str, str]:
    mark = "optional" if verdict.passed is None and verdict.optional else MARKS[verdict.passed]
    return mark, verdict.gate, verdict.measured, verdict.bound


def _conditions(found: Evaluation) -> str:
    return f"{found.conditions.engine} on {found.conditions.device}, seed {found.conditions.seed}"


def _measures(found: Evaluation) -> list[str]:
    lines: list[str] = []
    if found.perplexity and found.divergence:
        lines.append(
            f"perplexity {found.perplexity.candidate:.3f} (reference {found.perplexity.reference:.3f}), "
            f"KL divergence {found.divergence.mean_kld.value:.4f} nats, "
            f"same top token {found.divergence.same_top.value:.2%}, of {found.divergence.tokens:,} tokens"
        )
    ratios = speed_ratios(found.reference_running, found.candidate_running)
    for one in found.candidate_running.speed:
        beside = f" (× {ratios[one.batch]:.2f} of the reference)" if one.batch in ratios else ""
        lines.append(
            f"{one.batch} at a time: {one.requests_per_second:.2f} requests/s, "
            f"{one.output_tokens_per_second:,.0f} output tokens/s{beside}, first token {one.ttft_p50_ms:.0f} ms "
            f"(p95 {one.ttft_p95_ms:.0f}), between tokens {one.inter_token_p50_ms:.1f} ms"
        )
    if memory := found.candidate_running.memory:
        lines.append(
            f"{memory.weight_bytes:,} bytes of weights, cache for {memory.kv_tokens:,} tokens, "
            f"{memory.peak_bytes / 2**20:,.0f} MiB at most"
        )
    return lines


def _sum(found: Evaluation) -> str:
    if found.passed:
        return f"{found.candidate.name} passed"
    held = [
        verdict.gate
        for verdict in found.verdicts
        if not verdict.passed and not (verdict.passed is None and verdict.optional)
    ]
    return f"{found.candidate.name} did not pass: {', '.join(held) or 'no gate was asked'}"
