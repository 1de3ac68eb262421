"""All combinations that are asked for, from the cheapest, and which of them to take."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from workers.capacity.architecture import Model
from workers.capacity.options import Option, Question, consider, quantizations_of
from workers.capacity.quantizations import NAMES
from workers.capacity.remedies import remedies_for

AS_CHEAP = 1.05  # up to so much more is no reason to take fewer bits or more GPUs


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to take for one model, None where nothing is possible, and why."""

    model: Model
    option: Option | None
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """`possible` and `impossible` are all combinations, the former from the cheapest; one recommendation per model."""

    question: Question
    possible: tuple[Option, ...]
    impossible: tuple[Option, ...]
    recommended: tuple[Recommendation, ...]


def plan(question: Question) -> Plan:
    """Raises WrongUsage where the question cannot be asked of one of its models."""
    options = [option for model in question.models for option in _options(question, model)]
    possible = tuple(sorted((option for option in options if option.problem is None), key=_order))
    impossible = tuple(option for option in options if option.problem is not None)
    recommended = tuple(
        Recommendation(model, *recommend([option for option in possible if option.model is model]))
        for model in question.models
    )
    return Plan(question, possible, impossible, recommended)


def recommend(possible: Sequence[Option]) -> tuple[Option | None, str]:
    """The cheapest under the load; of those that cost about as much, the most bits, then the fewest GPUs."""
    if not possible:
        return None, "nothing fits; what would is said with each combination"
    priced = [(option, usd) for option in possible if (usd := _usd(option)) is not None]
    if not priced:
        best = min(possible, key=lambda option: (option.tensor_parallel, -bits_rank(option.quantization)))
        return best, "fits on the fewest GPUs with the most bits; speed and price of this memory are not known"
    least = min(usd for _, usd in priced)
    close = [option for option, usd in priced if usd <= least * AS_CHEAP]
    best = min(close, key=lambda option: (-bits_rank(option.quantization), _gpus(option), _usd(option) or 0))
    reason = "the least money for a token within the bounds"
    if len(close) > 1:
        reason = f"{reason}, and of {len(close)} that cost about as much the one with the most bits and fewest GPUs"
    if best.quantization != "none" and best.model.stored is None:
        reason = f"{reason}; {best.quantization} has yet to pass tollgate-worker evaluate"
    return best, reason


def bits_rank(quantization: str) -> int:
    """Higher keeps more of the model's precision."""
    return -NAMES.index(quantization) if quantization in NAMES else -len(NAMES)


def first_of_each(options: Iterable[Option]) -> list[Option]:
    """Of each model, quantization and GPU the first, which is the cheapest of those that fit."""
    found: dict[tuple[str, str, str], Option] = {}
    for option in options:
        found.setdefault((option.model.name, option.quantization, option.gpu.name), option)
    return list(found.values())


def _options(question: Question, model: Model) -> Iterator[Option]:
    for quantization in quantizations_of(model, question.quantizations):
        for gpu in question.gpus:
            for tensor_parallel in question.tensor_parallel:
                if tensor_parallel > gpu.most:
                    continue
                option = consider(question, model, quantization, gpu, tensor_parallel)
                if option.problem is not None:
                    option = dataclasses.replace(option, remedies=remedies_for(option, question))
                yield option


def _order(option: Option) -> tuple[float, int, int]:
    """By cost under the load, unknown ones last; then by bits and GPUs."""
    usd = _usd(option)
    return (float("inf") if usd is None else usd, -bits_rank(option.quantization), _gpus(option))


def _gpus(option: Option) -> int:
    return option.tensor_parallel * (option.service.replicas if option.service else 1)


def _usd(option: Option) -> float | None:
    """For a million tokens, to three digits: less is no difference."""
    usd = option.usd_per_million_tokens
    return None if usd is None else float(f"{usd:.3g}")
