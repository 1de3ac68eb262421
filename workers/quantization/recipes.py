"""The recipes: which scheme each applies to the linear layers, and whether it needs calibration text.

The output head and the embeddings keep their precision in all of them: they are the layers quantization hurts most.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class QuantizationRecipe:
    """`scheme` is a preset name of compressed-tensors, the format vLLM loads."""

    name: str
    scheme: str
    method: Literal["gptq", "round-to-nearest"]
    summary: str

    @property
    def needs_calibration(self) -> bool:
        return self.method == "gptq"


RECIPES: dict[str, QuantizationRecipe] = {
    recipe.name: recipe
    for recipe in (
        QuantizationRecipe("w8a8", "W8A8", "gptq", "INT8 weights by GPTQ, INT8 activations scaled per token"),
        QuantizationRecipe("w4a16-gptq", "W4A16", "gptq", "INT4 weights by GPTQ in groups of 128, 16-bit activations"),
        QuantizationRecipe("fp8", "FP8_DYNAMIC", "round-to-nearest", "FP8 weights, FP8 activations scaled per token"),
    )
}
