"""Bytes of a model's weights on one GPU, for each quantization and split, and what of them a step reads."""

from __future__ import annotations

from dataclasses import dataclass

from workers.capacity.architecture import Model, Role, Weights
from workers.capacity.quantizations import BY_NAME, MIXED, MIXED_BITS, W4A16, Quantization


def weights_bytes(model: Model, quantization: str, tensor_parallel: int = 1, mixed_bits: float = MIXED_BITS) -> int:
    """What one GPU of `tensor_parallel` holds, with the engine's table of rotary angles, which each of them has."""
    return model.rotary_bytes + sum(
        _held(weights, quantization, mixed_bits) // shards(weights, tensor_parallel) for weights in model.weights
    )


@dataclass(frozen=True, slots=True)
class Reads:
    """What one GPU reads of its weights in a step: `every_step`, of the `experts` what its tokens reach, and
    `unpacking` where it has more than one token and its kernels unpack the weights first."""

    every_step: float
    experts: float
    unpacking: float
    chosen_share: float  # experts per token, of all

    def bytes_of(self, tokens: float) -> float:
        """Experts as far as the tokens are expected to reach them, with uniform routing: 1 − (1 − k/E)^tokens."""
        reached = self.experts * (1 - (1 - self.chosen_share) ** tokens)
        return self.every_step + reached + (self.unpacking if tokens > 1 else 0.0)


def reads(model: Model, quantization: str, tensor_parallel: int = 1, mixed_bits: float = MIXED_BITS) -> Reads:
    """Of all weights but the embedding, of which a token takes one row; a tied head is read whole."""
    every_step, experts, unpacking = 0.0, 0.0, 0.0
    unpacks = quantization in BY_NAME and BY_NAME[quantization].unpacked
    for weights in model.weights:
        if weights.role is Role.EMBEDDING:
            continue
        held = _held(weights, quantization, mixed_bits) / shards(weights, tensor_parallel)
        if weights.role is Role.EXPERT:
            experts += held
        else:
            every_step += held
        if unpacks and weights.is_quantized:  # written and read again at 16 bits
            unpacking += 2 * 2 * weights.parameters / shards(weights, tensor_parallel)
    if not any(weights.role is Role.HEAD for weights in model.weights):
        every_step += 2 * model.vocab_size * model.hidden_size / tensor_parallel
    return Reads(every_step, experts, unpacking, model.experts_per_token / model.experts)


def active_parameters(model: Model) -> int:
    """Multiplications per token, a tied head included."""
    tied = 0 if any(weights.role is Role.HEAD for weights in model.weights) else model.vocab_size * model.hidden_size
    return model.active_parameters + tied


def why_not_split(model: Model, quantization: str, tensor_parallel: int) -> str | None:
    """What is in the way of `tensor_parallel` GPUs, or None."""
    if model.heads % tensor_parallel:
        return f"{model.heads} attention heads cannot be shared by {tensor_parallel} GPUs"
    group = model.stored_group if model.stored else _group(quantization)
    for weights in model.weights:
        if group and weights.input_split and weights.is_quantized and weights.in_features >= group:
            part, rest = divmod(weights.in_features, tensor_parallel)
            if rest or part % group:
                return (
                    f"rows of {weights.in_features} do not split into whole groups of {group} on {tensor_parallel} GPUs"
                )
    return None


def shards(weights: Weights, tensor_parallel: int) -> int:
    """In how many parts it is held; the other GPUs hold copies."""
    return tensor_parallel if weights.max_shards is None else min(tensor_parallel, weights.max_shards)


def _held(weights: Weights, quantization: str, mixed_bits: float) -> int:
    if weights.stored_bytes is not None:
        return weights.stored_bytes
    if not weights.is_quantized:
        return 2 * weights.parameters
    if quantization == MIXED:
        return round(weights.parameters * mixed_bits / 8)
    return BY_NAME[quantization].bytes_of(weights.parameters, weights.in_features)


def _group(quantization: str) -> int | None:
    chosen: Quantization | None = W4A16 if quantization == MIXED else BY_NAME.get(quantization)
    return chosen.group if chosen else None
