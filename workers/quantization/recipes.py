"""The recipes: which scheme each applies to the linear layers, how, and what it takes to serve the result.

The output head and the embeddings keep their precision in all of them: they are the layers quantization hurts most.
Compute capabilities are those of vLLM 0.32: `get_min_capability` of the schemes in
vllm/model_executor/layers/quantization/compressed_tensors, where FP8 falls back to weights alone below 8.9.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

GROUP = 128  # weights that share a scale in the 4-bit schemes
SMOOTHING = 0.5  # SmoothQuant's α: how much of the activations' range moves into the weights (arXiv 2211.10438)
NF4_BLOCK = 64  # weights that share a scale in bitsandbytes' NF4

Method = Literal["round-to-nearest", "gptq", "awq", "nf4", "mixed", "merge", "ladder"]


@dataclass(frozen=True, slots=True)
class Hardware:
    """NVIDIA compute capabilities, and whether vLLM's CPU kernels take it."""

    least: float
    native: float
    cpu: bool


@dataclass(frozen=True, slots=True)
class QuantizationRecipe:
    """`scheme` is a preset name of compressed-tensors, the format vLLM loads. `multiple` is what the inputs of a layer
    must be a multiple of for the kernels to take it."""

    name: str
    summary: str
    method: Method
    quantization: str
    scheme: str
    weight_bits: float
    scale_bits: float  # of all scales, per weight
    multiple: int
    hardware: Hardware
    parameters: MappingProxyType[str, str | int | float] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def needs_calibration(self) -> bool:
        return self.method in ("gptq", "awq", "mixed", "ladder")

    @property
    def loader(self) -> Literal["none", "compressed-tensors", "bitsandbytes"]:
        """What an engine reads its weights with."""
        match self.method:
            case "merge":
                return "none"
            case "nf4":
                return "bitsandbytes"
            case _:
                return "compressed-tensors"


_UNQUANTIZED = Hardware(7.5, 8.0, cpu=True)
_FP8 = Hardware(7.5, 8.9, cpu=True)
_INT8 = Hardware(7.5, 7.5, cpu=True)
_INT4 = Hardware(7.5, 7.5, cpu=True)
_NF4 = Hardware(7.5, 7.5, cpu=False)
_GROUPS = MappingProxyType[str, str | int | float]({"group_size": GROUP})

RECIPES: dict[str, QuantizationRecipe] = {
    recipe.name: recipe
    for recipe in (
        QuantizationRecipe(
            "fp8",
            "FP8 weights, FP8 activations scaled per token",
            *("round-to-nearest", "fp8", "FP8_DYNAMIC", 8, 0.05, 16, _FP8),
        ),
        QuantizationRecipe(
            "w8a8",
            "INT8 weights by SmoothQuant and GPTQ, INT8 activations scaled per token",
            *("gptq", "w8a8", "W8A8", 8, 0.05, 16, _INT8),
            MappingProxyType({"smoothing_strength": SMOOTHING}),
        ),
        QuantizationRecipe(
            "w4a16-gptq",
            "INT4 weights by GPTQ in groups of 128, 16-bit activations",
            *("gptq", "w4a16", "W4A16", 4, 16 / GROUP, GROUP, _INT4, _GROUPS),
        ),
        QuantizationRecipe(
            "w4a16-awq",
            "INT4 weights by AWQ in groups of 128, 16-bit activations",
            *("awq", "w4a16", "W4A16", 4, 16 / GROUP, GROUP, _INT4),
            MappingProxyType({"group_size": GROUP, "scales": "least square error"}),
        ),
        QuantizationRecipe(
            "nf4",
            "NF4 weights by bitsandbytes, for engines that load them",
            *("nf4", "nf4", "NF4", 4, 8 / NF4_BLOCK + 0.01, NF4_BLOCK, _NF4),
            MappingProxyType({"block_size": NF4_BLOCK, "double_quantization": 1}),
        ),
        QuantizationRecipe(
            "mixed",
            "INT4 by GPTQ, and 8 or 16 bits for the layers that suffer most from it, within --bits per weight",
            *("mixed", "mixed", "W4A16+W8A8", 4, 16 / GROUP, GROUP, _INT4, _GROUPS),
        ),
        QuantizationRecipe(
            "progressive",
            "down the --ladder for as long as the evaluation's gates pass; ships the last that passed",
            *("ladder", "", "", 8, 0.05, 16, _FP8),
        ),
        QuantizationRecipe(
            "merged",
            "nothing but the --adapter in the weights: what its quantized versions are evaluated against",
            *("merge", "none", "none", 16, 0, 1, _UNQUANTIZED),
        ),
    )
}
