"""A plan as a person reads it, and as a program does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from workers.capacity.gpus import Gpu
from workers.capacity.kv_cache import bytes_per_token
from workers.capacity.options import Option, Question
from workers.capacity.planning import Plan, first_of_each
from workers.capacity.serving import TARGET_LOAD, Operation, Service
from workers.capacity.units import count, duration, size, usd

ROWS = 15  # of each table, unless all are asked for
WIDE = 1000  # where no terminal says how wide it is
UNKNOWN = "–"
STAYS = 99

_Known = TypeVar("_Known")


@dataclass(frozen=True, slots=True)
class _Column:
    """`leaves` says which go first where the terminal is narrow."""

    heading: str
    cell: Callable[[Option], str]
    right: bool = True
    leaves: int = STAYS


def write_table(plan: Plan, console: Console, *, everything: bool) -> None:
    """What fits, from the cheapest; what does not, with what would; the recommendation."""
    for line in heading(plan.question):
        console.print(line, soft_wrap=True)
    possible = list(plan.possible) if everything else first_of_each(plan.possible)
    if possible:
        console.print(_possible_table(possible if everything else possible[:ROWS], plan, console))
    fitting = {_key(option) for option in plan.possible}
    impossible = list(plan.impossible)
    if not everything:
        impossible = _most_telling(option for option in impossible if _key(option) not in fitting)
    if impossible:
        console.print("What does not fit, and what would:")
        for option in impossible if everything else impossible[:ROWS]:
            console.print(f"  {_name(option)}: {option.problem}; fits: {', or '.join(option.remedies)}", soft_wrap=True)
    hidden = 0 if everything else max(0, len(possible) - ROWS) + max(0, len(impossible) - ROWS)
    if hidden:
        console.print(f"{hidden} more, and other splits, with --all")
    for one in plan.recommended:
        what = f"{one.model.name}: nothing" if one.option is None else _described(one.option)
        console.print(f"Recommended: {what}: {one.reason}.", soft_wrap=True)


def heading(question: Question) -> list[str]:
    """What the figures are for."""
    load, bounds = question.load, question.bounds
    rate = "as many as it can" if load.requests_per_second is None else f"{load.requests_per_second:g} requests/s"
    asked = f"{rate}, {load.prompt_tokens:,} prompt and {load.output_tokens:,} output tokens each"
    if bounds.ttft_seconds is not None:
        asked += f", first token within {duration(bounds.ttft_seconds)}"
    if bounds.token_seconds is not None:
        asked += f", then a token within {duration(bounds.token_seconds)}"
    lines = [f"Load: {asked}. Replicas run at {TARGET_LOAD:.0%} of what they could; times and costs are estimates."]
    for model in question.models:
        active = f", {count(model.active_parameters)} active" if model.experts > 1 else ""
        bits = question.settings.kv_cache_bits or model.kv_cache_bits
        lines.append(
            f"{model.name}: {count(model.parameters)} parameters{active}, {size(bytes_per_token(model, bits))} of KV"
            f" cache per token, a context of {question.context_of(model):,}"
        )
        if model.assumption:
            lines.append(f"  {model.assumption}")
    return lines


def to_json(plan: Plan) -> str:
    """All combinations, with their units in their names."""
    question = plan.question
    written = {
        "load": {
            "requests_per_second": question.load.requests_per_second,
            "prompt_tokens": question.load.prompt_tokens,
            "output_tokens": question.load.output_tokens,
            "max_ttft_seconds": question.bounds.ttft_seconds,
            "max_seconds_per_token": question.bounds.token_seconds,
        },
        "models": [
            {
                "name": model.name,
                "parameters": model.parameters,
                "active_parameters": model.active_parameters,
                "context": question.context_of(model),
                "assumption": model.assumption,
            }
            for model in question.models
        ],
        "recommended": [
            {
                "model": one.model.name,
                "option": None if one.option is None else as_json(one.option),
                "reason": one.reason,
            }
            for one in plan.recommended
        ],
        "possible": [as_json(option) for option in plan.possible],
        "impossible": [as_json(option) for option in plan.impossible],
    }
    return json.dumps(written, indent=2)


def as_json(option: Option) -> dict[str, Any]:
    memory, service = option.memory, option.service
    written: dict[str, Any] = {
        "model": option.model.name,
        "quantization": option.quantization,
        "gpu": option.gpu.name,
        "tensor_parallel": option.tensor_parallel,
        "weights_bytes_per_gpu": memory.weights_bytes,
        "overhead_bytes_per_gpu": memory.overhead_bytes,
        "kv_cache_bytes_per_gpu": max(0, memory.kv_cache_bytes),
        "kv_cache_bytes_per_token_per_gpu": bytes_per_token(option.model, memory.kv_cache_bits, option.tensor_parallel),
        "kv_cache_blocks": memory.cache.blocks,
        "kv_cache_block_tokens": memory.cache.block_tokens,
        "kv_cache_tokens": memory.cache.tokens(option.context),
        "context": option.context,
        "max_context": _max_context(option),
        "concurrency_at_context": option.concurrency,
        "problem": option.problem,
        "would_fit": list(option.remedies),
    }
    if service is not None:
        written |= {
            "replicas": service.replicas,
            "requests_per_second": service.requests_per_second,
            "hourly_usd": option.hourly_usd,
            "usd_per_million_tokens": option.usd_per_million_tokens,
            "under_load": _operation(service.now, option),
            "one_request": _operation(service.alone, option),
            "at_most": _operation(service.most, option),
        }
    return written


def _operation(operation: Operation, option: Option) -> dict[str, float]:
    return {
        "batch": operation.batch,
        "requests_per_second_per_replica": operation.requests_per_second,
        "ttft_seconds": operation.ttft_seconds,
        "seconds_per_token": operation.token_seconds,
        "tokens_per_second_per_request": 1 / operation.token_seconds,
    }


def _possible_table(options: Sequence[Option], plan: Plan, console: Console) -> Table:
    """With as many columns as there is room for."""
    columns = [column for column in _columns(plan) if any(column.cell(option) != UNKNOWN for option in options)]
    leaving = iter(sorted({column.leaves for column in columns} - {STAYS}))
    table = _table(columns, options, plan)
    unbounded = console.options.update(width=WIDE)
    while Measurement.get(console, unbounded, table).maximum > console.width:
        first = next(leaving, STAYS)
        if first == STAYS:
            break
        columns = [column for column in columns if column.leaves != first]
        table = _table(columns, options, plan)
    return table


def _table(columns: Sequence[_Column], options: Sequence[Option], plan: Plan) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column.heading, justify="right" if column.right else "left", no_wrap=True)
    recommended = [one.option for one in plan.recommended]
    for option in options:
        cells = [column.cell(option) for column in columns]
        table.add_row(*cells, style="bold" if any(option is one for one in recommended) else "")
    return table


def _columns(plan: Plan) -> list[_Column]:
    models = plan.question.models
    context = "context" if len(models) > 1 else f"{plan.question.context_of(models[0]):,}"
    named = [_Column("model", lambda option: option.model.name, right=False)] if len(models) > 1 else []
    return [
        *named,
        _Column("quantization", lambda option: option.quantization, right=False),
        _Column("GPUs", lambda option: _gpus(option.gpu, option.tensor_parallel), right=False),
        _Column("weights/GPU", lambda option: size(option.memory.weights_bytes), leaves=6),
        _Column("KV tokens", lambda option: f"{option.memory.cache.tokens(option.context):,}", leaves=4),
        _Column(f"at {context}", lambda option: f"{option.concurrency:,}"),
        _Column("max context", lambda option: f"{_max_context(option):,}", leaves=2),
        _Column("tokens/s alone", lambda option: _of(option.service, _alone), leaves=3),
        _Column("running", lambda option: _of(option.service, lambda service: f"{service.now.batch:.1f}"), leaves=1),
        _Column(
            "TTFT", lambda option: _of(option.service, lambda service: duration(service.now.ttft_seconds)), leaves=8
        ),
        _Column(
            "per token",
            lambda option: _of(option.service, lambda service: duration(service.now.token_seconds)),
            leaves=7,
        ),
        _Column("replicas", lambda option: _of(option.service, lambda service: str(service.replicas))),
        _Column("$/h", lambda option: _of(option.hourly_usd, usd), leaves=5),
        _Column("$/M tokens", lambda option: _of(option.usd_per_million_tokens, usd)),
    ]


def _of(value: _Known | None, written: Callable[[_Known], str]) -> str:
    return UNKNOWN if value is None else written(value)


def _alone(service: Service) -> str:
    return f"{1 / service.alone.token_seconds:,.0f}"


def _described(option: Option) -> str:
    text = _name(option)
    if option.service is not None and option.service.replicas > 1:
        text += f" × {option.service.replicas} replicas"
    if option.hourly_usd is not None:
        text += f", {usd(option.hourly_usd)}/h"
    return text


def _name(option: Option) -> str:
    return f"{option.model.name} {option.quantization} on {_gpus(option.gpu, option.tensor_parallel)}"


def _gpus(gpu: Gpu, tensor_parallel: int) -> str:
    return gpu.title if tensor_parallel == 1 else f"{tensor_parallel} × {gpu.title}"


def _max_context(option: Option) -> int:
    """What fits of what the model can take."""
    most = option.memory.cache.blocks * option.memory.cache.block_tokens
    return option.memory.cache.max_context(option.model.max_context or max(most, option.context))


def _most_telling(options: Iterable[Option]) -> list[Option]:
    """Of each model, quantization and GPU the largest split that was tried, or any where all have the same problem."""
    found: dict[tuple[str, str, str], Option] = {}
    for option in options:
        known = found.get(_key(option))
        if known is None or known.problem != option.problem:
            found[_key(option)] = option
    return list(found.values())


def _key(option: Option) -> tuple[str, str, str]:
    return option.model.name, option.quantization, option.gpu.name
