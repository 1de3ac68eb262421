"""How good a demo model is on text it has never seen, beside a model that only counts tokens."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

WINDOW = 512


@dataclass(frozen=True, slots=True)
class Examination:
    """Perplexity per token; bits per byte do not depend on the tokenizer."""

    held_out_tokens: int
    perplexity: float
    unigram_perplexity: float
    bits_per_byte: float

    def as_json(self) -> dict[str, float]:
        return {name: round(value, 4) for name, value in asdict(self).items()}


def unigram_perplexity(training: Sequence[int], held_out: Sequence[int], vocabulary: int) -> float:
    """Add-one smoothed token frequencies of the training text, asked about the held-out text."""
    counts = Counter(training)
    total = len(training) + vocabulary
    bits = sum(-math.log((counts[token] + 1) / total) for token in held_out)
    return math.exp(bits / len(held_out))


def bits_per_byte(perplexity: float, tokens: int, size: int) -> float:
    return math.log2(perplexity) * tokens / size
