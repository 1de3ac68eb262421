"""One combination of model, quantization, GPU and tensor parallel: whether it can be, how it would serve the load."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from workers.capacity.architecture import Model
from workers.capacity.gpus import Gpu
from workers.capacity.memory import Memory, Settings, max_requests, share_out
from workers.capacity.quantizations import NAMES
from workers.capacity.roofline import Engine
from workers.capacity.serving import Bounds, Load, Service, operate, serve
from workers.capacity.units import duration, size
from workers.capacity.weights import why_not_split
from workers.errors import WrongUsage

DEFAULT_CONTEXT = 4096


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. `context` None is as long as the load needs, at least DEFAULT_CONTEXT where the model has that."""

    models: Sequence[Model]
    gpus: Sequence[Gpu]
    quantizations: Sequence[str]
    tensor_parallel: Sequence[int]
    load: Load
    context: int | None = None
    bounds: Bounds = field(default_factory=Bounds)
    settings: Settings = field(default_factory=Settings)

    def context_of(self, model: Model) -> int:
        """The longest request there is to be. Raises WrongUsage where the model, or the load, does not go with it."""
        needed = self.load.prompt_tokens + self.load.output_tokens
        limit = model.max_context
        context = self.context or max(needed, min(limit or DEFAULT_CONTEXT, DEFAULT_CONTEXT))
        if limit is not None and context > limit:
            raise WrongUsage(f"{model.name} has a context of {limit:,} tokens, {context:,} are asked for")
        if needed > context:
            raise WrongUsage(
                f"{self.load.prompt_tokens:,} prompt and {self.load.output_tokens:,} output tokens do not go into"
                f" a context of {context:,}; raise --context or lower them"
            )
        return context


@dataclass(frozen=True, slots=True)
class Option:
    """One combination. `problem` says why it can not be, `remedies` what would; `service` is None where no speed is
    known, or there is a problem."""

    model: Model
    quantization: str
    gpu: Gpu
    tensor_parallel: int
    context: int
    tokens_per_request: int
    memory: Memory
    problem: str | None = None
    remedies: tuple[str, ...] = ()
    fits: bool = True  # in memory
    service: Service | None = None

    @property
    def concurrency(self) -> int:
        return self.memory.cache.concurrency(self.context)

    @property
    def hourly_usd(self) -> float | None:
        """Of all replicas."""
        if self.gpu.hourly_usd is None or self.service is None:
            return None
        return self.gpu.hourly_usd * self.tensor_parallel * self.service.replicas

    @property
    def usd_per_million_tokens(self) -> float | None:
        """Of prompt and output together, under the load."""
        if self.hourly_usd is None or self.service is None:
            return None
        return self.hourly_usd / (self.service.requests_per_second * self.tokens_per_request * 3600) * 1e6


def quantizations_of(model: Model, asked: Sequence[str]) -> Sequence[str]:
    """What a checkpoint can be served as: one that is quantized already only as it is. Raises WrongUsage."""
    if model.stored is None:
        return asked
    if model.stored not in asked and set(asked) != set(NAMES):
        raise WrongUsage(f"{model.name} is {model.stored} already; plan the checkpoint that it was made from")
    return (model.stored,)


def consider(question: Question, model: Model, quantization: str, gpu: Gpu, tensor_parallel: int) -> Option:
    """One combination, without remedies."""
    context = question.context_of(model)
    settings = question.settings
    memory = share_out(model, quantization, gpu, tensor_parallel, settings)
    load = question.load
    option = Option(model, quantization, gpu, tensor_parallel, context, load.prompt_tokens + load.output_tokens, memory)
    if problem := _unsupported(option) or _does_not_fit(option):
        return dataclasses.replace(option, problem=problem, fits=False)
    if not gpu.is_known:
        return option
    engine = Engine(model, quantization, gpu, tensor_parallel, memory.kv_cache_bits, settings.mixed_bits)
    together = min(max_requests(gpu, settings), memory.cache.concurrency(option.tokens_per_request))
    service = serve(engine, load, question.bounds, together)
    if service is not None:
        return dataclasses.replace(option, service=service)
    return dataclasses.replace(option, problem=_too_slow(engine, question))


def _unsupported(option: Option) -> str | None:
    """What no amount of memory would change."""
    gpu, quantization = option.gpu, option.quantization
    if quantization in NAMES and quantization not in gpu.quantizations:
        return f"vLLM does not run {quantization} on {gpu.title}"
    return why_not_split(option.model, quantization, option.tensor_parallel)


def _does_not_fit(option: Option) -> str | None:
    memory = option.memory
    beside = f"weights {size(memory.weights_bytes)} + engine {size(memory.overhead_bytes)}"
    if memory.kv_cache_bytes <= 0 or memory.free_bytes < 0:
        cache = f" + KV cache {size(memory.kv_cache_bytes)}" if memory.kv_cache_bytes > 0 else ""
        return f"{beside}{cache} are more than {size(memory.usable_bytes)} of {option.gpu.title}"
    if option.concurrency < 1:
        block = memory.cache.block_bytes
        needed = (memory.cache.blocks_of(option.context) + 1) * block
        return (
            f"{option.context:,} tokens need {size(needed)} of KV cache,"
            f" {size(memory.cache.blocks * block)} are left beside weights of {size(memory.weights_bytes)}"
        )
    return None


def _too_slow(engine: Engine, question: Question) -> str:
    alone, bounds = operate(engine, question.load, 0.0), question.bounds
    if bounds.ttft_seconds is not None and alone.ttft_seconds > bounds.ttft_seconds:
        return (
            f"the first token takes {duration(alone.ttft_seconds)} even alone, {duration(bounds.ttft_seconds)} is asked"
        )
    bound = bounds.token_seconds or 0.0
    return f"a token takes {duration(alone.token_seconds)} even alone, {duration(bound)} is asked"
