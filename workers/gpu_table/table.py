"""The measured rows as a table for people, for Markdown and for programs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workers.evaluation.result import Evaluation, Speed
from workers.gpu_table.rows import BATCHES, Published, Row

GB = 1e9


@dataclass(frozen=True, slots=True)
class Measured:
    """One row, as far as it was measured; `failed` says why it was not."""

    row: Row
    evaluation: Evaluation | None
    failed: str | None = None

    @property
    def speed(self) -> dict[int, Speed]:
        found = self.evaluation
        return {} if found is None else {speed.batch: speed for speed in found.candidate_running.speed}

    @property
    def tokens_per_second(self) -> float | None:
        """Of one request alone, as published figures count it."""
        return self.speed[1].output_tokens_per_second if 1 in self.speed else None

    @property
    def weight_bytes(self) -> int | None:
        found = self.evaluation
        if found is None:
            return None
        memory = found.candidate_running.memory
        return found.candidate.weight_bytes if memory is None else memory.weight_bytes

    @property
    def peak_bytes(self) -> int | None:
        found = self.evaluation
        return (
            None
            if found is None or found.candidate_running.memory is None
            else found.candidate_running.memory.peak_bytes
        )

    @property
    def perplexity(self) -> float | None:
        found = self.evaluation
        return None if found is None or found.perplexity is None else found.perplexity.candidate


HEADINGS = (
    *("", "tokens/s", "× fp16", *(f"req/s at {batch}" for batch in BATCHES)),
    *("weights", "saved", "peak", "perplexity", "× fp16", "KLD", "same top"),
)
MISSING = "–"


def cells(measured: Sequence[Measured]) -> list[list[str]]:
    """As text, in the order of the headings."""
    base = next((one for one in measured if one.row.recipe is None), None)
    return [_cells(one, base) for one in measured]


def _cells(one: Measured, base: Measured | None) -> list[str]:
    if one.failed is not None:
        return [one.row.name, "failed", *[MISSING] * (len(HEADINGS) - 2)]
    found = one.evaluation
    divergence = None if found is None else found.divergence
    saved = None
    if base is not None and one is not base and one.weight_bytes is not None and base.weight_bytes:
        saved = 1 - one.weight_bytes / base.weight_bytes
    return [
        one.row.name,
        _figure(one.tokens_per_second),
        _shown(_ratio(one.tokens_per_second, base and base.tokens_per_second), ".2f"),
        *(_figure(one.speed[batch].requests_per_second if batch in one.speed else None) for batch in BATCHES),
        _bytes(one.weight_bytes),
        _shown(saved, ".0%"),
        _bytes(one.peak_bytes),
        _shown(one.perplexity, ".3f"),
        _shown(_ratio(one.perplexity, base and base.perplexity), ".4f"),
        _shown(None if divergence is None else divergence.mean_kld.value, ".5f"),
        _shown(None if divergence is None else divergence.same_top.value, ".2%"),
    ]


def published_cells(rows: Sequence[Row]) -> list[list[str]]:
    base = next((row.published for row in rows if row.recipe is None), None)
    return [_published(row.name, row.published, base) for row in rows]


def _published(name: str, one: Published, base: Published | None) -> list[str]:
    requests = dict(one.requests_per_second)
    return [
        name,
        _figure(one.tokens_per_second),
        _shown(_ratio(one.tokens_per_second, base and base.tokens_per_second), ".2f"),
        *(_figure(requests.get(batch)) for batch in BATCHES),
        MISSING,
        _shown(one.memory_saved or None, ".0%"),
        MISSING,
        _shown(one.perplexity, ".2f"),
        _shown(_ratio(one.perplexity, base and base.perplexity), ".4f"),
        *(MISSING, MISSING),
    ]


def conditions(measured: Sequence[Measured]) -> str:
    """With what, when and on what; a row that was made on another device or day has a sentence of its own."""
    said: dict[str, list[str]] = {}
    for one in measured:
        if one.evaluation is not None:
            with_what = one.evaluation.conditions
            said.setdefault(f"{with_what.device}, {with_what.engine}, {with_what.at[:10]}", []).append(one.row.name)
    if len(said) == 1:
        return next(iter(said))
    return "; ".join(f"{', '.join(names)}: {with_what}" for with_what, names in said.items())


def markdown(name: str, measured: Sequence[Measured], remarks: Sequence[str]) -> str:
    rows = [one.row for one in measured]
    lines = [
        f"# {name} at 16, 8 and 4 bits",
        "",
        f"Measured on: {conditions(measured) or 'nothing yet'}.",
        "",
        *_grid(HEADINGS, cells(measured)),
        "",
        *(f"- {remark}" for remark in remarks),
        *(f"- {one.row.name} failed: {one.failed}" for one in measured if one.failed is not None),
        "",
        "tokens/s is one request at a time; KLD is the mean KL divergence of next-token distributions from fp16's, in",
        "nats, and fp16's own what two runs of it differ by. Peak is the engine's whole memory, its KV cache included.",
        "",
        "Published for LLaMA-7B on an A100, perplexity on WikiText (another model, device and text):",
        "",
        *_grid(HEADINGS, published_cells(rows)),
    ]
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def as_json(name: str, measured: Sequence[Measured], remarks: Sequence[str]) -> dict[str, Any]:
    return {
        "model": name,
        "remarks": list(remarks),
        "rows": [
            {
                "name": one.row.name,
                "recipe": one.row.recipe,
                "failed": one.failed,
                "evaluation": None if one.evaluation is None else one.evaluation.model_dump(mode="json"),
                "published": {
                    "tokens_per_second": one.row.published.tokens_per_second,
                    "requests_per_second": dict(one.row.published.requests_per_second),
                    "perplexity": one.row.published.perplexity,
                    "memory_saved": one.row.published.memory_saved,
                },
            }
            for one in measured
        ],
    }


def _grid(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(headings)} |",
        f"|{'---|' * len(headings)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _ratio(value: float | None, base: float | None) -> float | None:
    return None if value is None or not base else value / base


def _shown(value: float | None, form: str) -> str:
    return MISSING if value is None else format(value, form)


def _figure(value: float | None) -> str:
    """With two digits at least."""
    return _shown(value, ",.0f" if value is None or value >= 20 else ".1f" if value >= 2 else ".2f")


def _bytes(count: int | None) -> str:
    if count is None:
        return MISSING
    return f"{count / GB:.2f} GB" if count >= GB / 10 else f"{count / 1e6:.1f} MB"
