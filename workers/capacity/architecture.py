"""What of a model decides its size and its speed: weights by what quantization does to them, and what attention caches.

Shapes follow vLLM's own layers, so that the sums are what it allocates (vllm/model_executor/layers).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Role(Enum):
    """What a weight is for: it decides whether recipes quantize it and how often a token uses it."""

    LINEAR = "linear"  # quantized; used by every token
    EXPERT = "expert"  # quantized; used by the tokens that are routed to it
    EMBEDDING = "embedding"  # kept at 16 bits; a token reads one row
    HEAD = "head"  # kept at 16 bits; used by every token
    OTHER = "other"  # norms, biases, routers: kept


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of one kind, summed over layers. `in_features` is the length of one output channel's row."""

    role: Role
    parameters: int
    in_features: int = 1
    max_shards: int | None = None  # 1 is whole on each GPU; KV projections split in as many parts as there are heads
    input_split: bool = False  # tensor parallelism cuts its rows (o_proj, down_proj): groups must not straddle GPUs
    stored_bytes: int | None = None  # of a checkpoint that is quantized already, as the engine holds them

    @property
    def is_quantized(self) -> bool:
        return self.role in (Role.LINEAR, Role.EXPERT)


@dataclass(frozen=True, slots=True)
class Attention:
    """`layers` layers that cache alike. `latent` is the width of MLA's one shared vector, 0 for keys and values."""

    layers: int
    kv_heads: int
    head_dim: int
    window: int | None = None  # tokens a sliding window looks back
    latent: int = 0


@dataclass(frozen=True, slots=True)
class Model:
    """One model as capacity arithmetic sees it."""

    name: str
    weights: tuple[Weights, ...]
    attention: tuple[Attention, ...]
    hidden_size: int
    heads: int
    head_dim: int
    intermediate_size: int  # the widest of a token's intermediate activations
    vocab_size: int
    max_context: int | None = None  # None: not known
    experts: int = 1
    experts_per_token: int = 1
    rotary_bytes: int = 0  # the table of angles that vLLM keeps beside the weights
    stored: str | None = None  # the quantization that a checkpoint already has
    stored_group: int | None = None
    kv_cache_bits: int = 16
    assumption: str | None = None  # what was taken for granted, as a sentence

    @property
    def layers(self) -> int:
        return sum(group.layers for group in self.attention)

    @property
    def parameters(self) -> int:
        return sum(weights.parameters for weights in self.weights)

    @property
    def active_parameters(self) -> int:
        """What one token is multiplied with: all but the embedding's rows and the experts it is not routed to."""
        dense = self.parameters_of(Role.LINEAR, Role.HEAD, Role.OTHER)
        return dense + self.parameters_of(Role.EXPERT) * self.experts_per_token // self.experts

    def parameters_of(self, *roles: Role) -> int:
        return sum(weights.parameters for weights in self.weights if weights.role in roles)
