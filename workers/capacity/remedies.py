"""What would make a combination possible that is not: each of them was tried."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from workers.capacity.gpus import TABLE
from workers.capacity.options import Option, Question, consider, quantizations_of
from workers.capacity.quantizations import NAMES

SPLITS = (1, 2, 4, 8)
MOST = 4  # that are named
SHORTEST_CONTEXT = 256  # below it nothing useful is served


def remedies_for(option: Option, question: Question) -> tuple[str, ...]:
    """The smallest changes first: fewer bits, more GPUs, a shorter context, a smaller cache, another GPU."""
    found = [
        next(remedies, None)
        for remedies in (
            _quantizations(option, question),
            _splits(option, question),
            _smaller_cache(option, question),
            _contexts(option, question),
        )
    ]
    named = [remedy for remedy in found if remedy is not None]
    if not named:
        named = list(_other_gpus(option, question))
    return tuple(named[:MOST]) or ("nothing in the table of GPUs; take a smaller model or looser bounds",)


def _quantizations(option: Option, question: Question) -> Iterator[str]:
    asked = quantizations_of(option.model, NAMES)
    place = asked.index(option.quantization)
    nearest = sorted(asked, key=lambda name: abs(asked.index(name) - place))
    for name in nearest[1:]:
        tried = consider(question, option.model, name, option.gpu, option.tensor_parallel)
        if tried.problem is None:
            yield name


def _splits(option: Option, question: Question) -> Iterator[str]:
    for split in SPLITS:
        if option.tensor_parallel < split <= option.gpu.most:
            tried = consider(question, option.model, option.quantization, option.gpu, split)
            if tried.problem is None:
                yield f"{split} GPUs (--tensor-parallel {split})"


def _smaller_cache(option: Option, question: Question) -> Iterator[str]:
    if option.memory.kv_cache_bits > 8:
        settings = dataclasses.replace(question.settings, kv_cache_bits=8)
        tried = consider(
            dataclasses.replace(question, settings=settings),
            option.model,
            option.quantization,
            option.gpu,
            option.tensor_parallel,
        )
        if tried.problem is None:
            yield "an FP8 KV cache (--kv-cache-dtype fp8)"


def _contexts(option: Option, question: Question) -> Iterator[str]:
    """The longest that fits; in whole blocks, and not shorter than what the load asks for."""
    memory = option.memory
    longest = memory.cache.max_context(option.context)
    longest -= longest % memory.cache.block_tokens
    needed = question.load.prompt_tokens + question.load.output_tokens
    if max(SHORTEST_CONTEXT, needed) <= longest < option.context:
        yield f"a context of {longest:,} tokens (--context {longest})"


def _other_gpus(option: Option, question: Question) -> Iterator[str]:
    for gpu in sorted(TABLE.values(), key=lambda gpu: gpu.memory_bytes):
        if gpu.name == option.gpu.name or gpu.is_cpu:
            continue
        for split in SPLITS:
            if split > gpu.most:
                continue
            tried = consider(question, option.model, option.quantization, gpu, split)
            if tried.problem is None:
                yield f"{split} × {gpu.title}" if split > 1 else gpu.title
                break
