"""What others have published about quantized models, to hold the measurements against."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Published:
    """`bits` of the weights; of different models and texts, so an order of magnitude and no bound."""

    label: str
    bits: int
    value: float


# llama.cpp, examples/perplexity/README.md: Llama-3-8B on WikiText-2, against FP16.
LLAMA_CPP = "llama.cpp, Llama-3-8B"
KLD = (
    Published("q8_0", 8, 0.0014),
    Published("q6_K", 6, 0.0055),
    Published("q4_K_M", 4, 0.031),
    Published("q2_K", 2, 0.45),
)
SAME_TOP = (
    Published("q8_0", 8, 0.977),
    Published("q6_K", 6, 0.960),
    Published("q4_K_M", 4, 0.919),
    Published("q2_K", 2, 0.711),
)

# LLaMA-7B: perplexity on WikiText 5.12, 5.24, 5.67; tokens per second on an A100 48, 112, 186.
LLAMA_7B = "LLaMA-7B"
PERPLEXITY_RATIO = (Published("INT8", 8, 5.24 / 5.12), Published("INT4", 4, 5.67 / 5.12))
SPEEDUP = (Published("INT8", 8, 112 / 48), Published("INT4", 4, 186 / 48))
MEMORY_SAVED = (Published("INT8", 8, 0.5), Published("INT4", 4, 0.75))
# MMLU 46.2, 45.1, 43.7.
POINTS_LOST = (Published("INT8", 8, 1.1), Published("INT4", 4, 2.5))


def of_bits(published: tuple[Published, ...], bits: int | None) -> Published | None:
    return next((one for one in published if one.bits == bits), None)
