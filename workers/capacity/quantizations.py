"""The quantizations of models.yaml, as the recipes of `tollgate-worker quantize` make them: bits of the quantized
layers, with their scales. Output head, embeddings, norms and routers keep 16 bits in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Quantization:
    """`scale_bytes` are held for each `group` weights of a row, or for each row where `group` is None.

    As vLLM 0.32 allocates them: 32-bit scales per channel for 8-bit weights (compressed_tensors_w8a8_*.py), 16-bit ones
    per group for 4-bit (compressed_tensors_wNa16.py), 32-bit absolute maxima per block for NF4 (bitsandbytes.py; nested
    ones are unpacked when they are loaded).
    """

    name: str
    bits: int
    scale_bytes: float = 0
    group: int | None = None
    unpacked: bool = False  # the kernel writes 16-bit weights before it multiplies

    def bytes_of(self, parameters: int, in_features: int) -> int:
        """Of so many weights in rows of `in_features`, scales included."""
        scales = parameters / in_features * self.scale_bytes * -(-in_features // (self.group or in_features))
        return round(parameters * self.bits / 8 + scales)


NONE = Quantization("none", 16)
FP8 = Quantization("fp8", 8, scale_bytes=4)
W8A8 = Quantization("w8a8", 8, scale_bytes=4)
W4A16 = Quantization("w4a16", 4, scale_bytes=2, group=128)
NF4 = Quantization("nf4", 4, scale_bytes=4, group=64, unpacked=True)

MIXED = "mixed"  # W4A16, with more bits for the layers that suffer most from it
MIXED_BITS = 6.0  # per quantized weight, scales included, unless said otherwise
LEAST_MIXED_BITS, MOST_MIXED_BITS = 4.125, 16.0

BY_NAME: Mapping[str, Quantization] = MappingProxyType({one.name: one for one in (NONE, FP8, W8A8, W4A16, NF4)})
NAMES = ("none", "fp8", "w8a8", MIXED, "w4a16", "nf4")  # from the most bits to the fewest
