"""Mixed precision: which layers get more than four bits, when all of them together may have so many per weight.

Layers that an engine multiplies as one, and all experts of a block, share a precision. Divergences of single layers are
taken to add up, so what is chosen is the steepest way down their sum: of all raises of a layer's bits, the one that
takes off the most divergence for the bits it costs, again and again, for as long as there is room.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from workers.quantization.recipes import GROUP

Bits = Literal[4, 8, 16]
COST: Mapping[Bits, float] = {4: 4 + 16 / GROUP, 8: 8.0625, 16: 16.0}  # bits per weight, scales included
FUSED = (
    (re.compile(r"\.experts\..*$"), ".experts"),
    (re.compile(r"\.[qkv]_proj$"), ".qkv_proj"),
    (re.compile(r"\.(gate|up)_proj$"), ".gate_up_proj"),
)  # as vLLM's `packed_modules_mapping`


@dataclass(frozen=True, slots=True)
class Measured:
    """A layer with its number of weights, and the mean KL divergence that quantizing it alone costs, in nats."""

    name: str
    weights: int
    kld: Mapping[Bits, float]  # at 4 and at 8 bits


def fused_name(module: str) -> str:
    """The layer that an engine makes of this module and its neighbours."""
    for pattern, name in FUSED:
        if pattern.search(module):
            return pattern.sub(name, module)
    return module


def fused(modules: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The modules of each layer, in their order."""
    found: dict[str, tuple[str, ...]] = {}
    for module in modules:
        name = fused_name(module)
        found[name] = (*found.get(name, ()), module)
    return found


def allocate(layers: Sequence[Measured], budget: float) -> dict[str, Bits]:
    """The bits of each layer, by name: `budget` bits per weight on average at most, where four bits fit at all."""
    chosen: dict[str, Bits] = {layer.name: 4 for layer in layers}
    room = sum(layer.weights for layer in layers) * (budget - COST[4])
    raises = [raised for layer in layers for raised in _raises(layer) if raised.gain > 0]
    raises.sort(key=lambda one: (-one.gain, one.name, one.to))
    for raised in raises:
        # A steeper raise of the same layer comes first; where there was no room for it, a later one starts lower.
        cost = raised.weights * (COST[raised.to] - COST[chosen[raised.name]])
        if raised.to > chosen[raised.name] and cost <= room * (1 + 1e-12):
            chosen[raised.name] = raised.to
            room -= cost
    return chosen


def average(layers: Sequence[Measured], chosen: Mapping[str, Bits]) -> float:
    """Bits per weight over these layers, scales included."""
    total = sum(layer.weights for layer in layers)
    return sum(layer.weights * COST[chosen[layer.name]] for layer in layers) / total


@dataclass(frozen=True, slots=True)
class _Raise:
    name: str
    weights: int
    to: Bits
    gain: float  # divergence taken off, per bit


def _raises(layer: Measured) -> Iterator[_Raise]:
    """The raises worth having, each flatter than the one before: to 8 and then 16 bits, or to 16 at once."""
    four, eight = layer.kld[4], min(layer.kld[8], layer.kld[4])
    first = (four - eight) / (layer.weights * (COST[8] - COST[4]))
    second = eight / (layer.weights * (COST[16] - COST[8]))
    if first > second:
        yield _Raise(layer.name, layer.weights, 8, first)
        yield _Raise(layer.name, layer.weights, 16, second)
    else:
        yield _Raise(layer.name, layer.weights, 16, four / (layer.weights * (COST[16] - COST[4])))
