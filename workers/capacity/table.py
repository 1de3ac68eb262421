"""A plan as a person reads it, and as a program does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from workers.capacity.gpus import Gpu
from workers.capacity.kv_cache import bytes_per_token
from workers.capacity.options import Option, Question
from workers.capacity.planning import Plan, first_of_each
from workers.capacity.serving import TARGET_LOAD, Operation
from workers.capacity.units import count, duration, size, usd

ROWS = 15  # of each table, unless all are asked for
WIDE = 1000  # where no terminal says how wide it is
UNKNOWN = "–"


def write_table(plan: Plan, console: Console, *, everything: bool) -> None:
    """What fits, from the cheapest; what does not, with what would; the recommendation."""
    for line in heading(plan.question):
        console.print(line, soft_wrap=True)
    possible = list(plan.possible) if everything else first_of_each(plan.possible)
    if possible:
        console.print(_possible_table(possible if everything else possible[:ROWS], plan))
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
    if plan.recommended is not None:
        console.print(f"Recommended: {_described(plan.recommended)}: {plan.reason}.", soft_wrap=True)
    else:
        console.print(f"Nothing to recommend: {plan.reason}.", soft_wrap=True)


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
        "recommended": None if plan.recommended is None else as_json(plan.recommended),
        "reason": plan.reason,
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


def _possible_table(options: Sequence[Option], plan: Plan) -> Table:
    named = len(plan.question.models) > 1
    context = None if named else plan.question.context_of(plan.question.models[0])
    table = Table()
    for heading, right in (
        *((("model", False),) if named else ()),
        ("quantization", False),
        ("GPUs", False),
        ("weights/GPU", True),
        ("KV tokens", True),
        (f"at {context:,}" if context else "at context", True),
        ("max context", True),
        ("tokens/s alone", True),
        ("running", True),
        ("TTFT", True),
        ("per token", True),
        ("replicas", True),
        ("$/h", True),
        ("$/M tokens", True),
    ):
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for option in options:
        mark = "bold" if option is plan.recommended else ""
        cells = [*((option.model.name,) if named else ()), *_cells(option)]
        table.add_row(*cells, style=mark)
    return table


def _cells(option: Option) -> list[str]:
    memory, service = option.memory, option.service
    cells = [
        option.quantization,
        _gpus(option.gpu, option.tensor_parallel),
        size(memory.weights_bytes),
        f"{memory.cache.tokens(option.context):,}",
        f"{option.concurrency:,}",
        f"{_max_context(option):,}",
    ]
    if service is None:
        return [*cells, *([UNKNOWN] * 7)]
    hourly, million = option.hourly_usd, option.usd_per_million_tokens
    return [
        *cells,
        f"{1 / service.alone.token_seconds:,.0f}",
        f"{service.now.batch:.1f}",
        duration(service.now.ttft_seconds),
        duration(service.now.token_seconds),
        str(service.replicas),
        UNKNOWN if hourly is None else usd(hourly),
        UNKNOWN if million is None else usd(million),
    ]


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
