"""Next-token distributions as far as an endpoint tells them, and how far apart two of them are at least. Pure.

An endpoint tells the log-probabilities of the most probable tokens and of the one that follows in the text. Tokens of
which both models told something are outcomes of their own, all others are one: that is a coarser view of both
distributions, and a divergence never grows under one (data-processing inequality; Cover & Thomas, section 2.8).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

SMALLEST_TAIL = 1e-7  # log-probabilities come as 32-bit floats: what is left of 1 is not known more exactly


@dataclass(frozen=True, slots=True)
class Position:
    """One next token: the log-probability of the true one, and those that were told by token, the true one included."""

    truth: float
    told: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Scored:
    """The positions of one window of text, packed: `ends[i]` is where those of position i end in the other two."""

    truths: array[float] = field(default_factory=lambda: array("d"))
    ends: array[int] = field(default_factory=lambda: array("q"))
    tokens: array[int] = field(default_factory=lambda: array("q"))
    logprobs: array[float] = field(default_factory=lambda: array("d"))

    @classmethod
    def of(cls, positions: Iterable[Position]) -> Scored:
        scored = cls()
        for position in positions:
            scored.truths.append(position.truth)
            scored.tokens.extend(position.told)
            scored.logprobs.extend(position.told.values())
            scored.ends.append(len(scored.tokens))
        return scored

    def __len__(self) -> int:
        return len(self.truths)

    def __iter__(self) -> Iterator[Position]:
        begin = 0
        for truth, end in zip(self.truths, self.ends, strict=True):
            yield Position(truth, dict(zip(self.tokens[begin:end], self.logprobs[begin:end], strict=True)))
            begin = end


def divergence(reference: Mapping[int, float], candidate: Mapping[int, float]) -> float:
    """A lower bound of KL(reference ‖ candidate) in nats, from log-probabilities by token; 0 for equal ones."""
    total = 0.0
    reference_told = candidate_told = 0.0
    for token, logprob in reference.items():
        other = candidate.get(token)
        if other is None:
            continue
        probability = math.exp(logprob)
        reference_told += probability
        candidate_told += math.exp(other)
        if probability > 0:
            total += probability * (logprob - other)
    tail = max(1.0 - reference_told, SMALLEST_TAIL)
    total += tail * math.log(tail / max(1.0 - candidate_told, SMALLEST_TAIL))
    return max(0.0, total)


def same_top(reference: Mapping[int, float], candidate: Mapping[int, float]) -> bool:
    """Whether the most probable token is the same. Of several that are equally probable, which 16-bit logits often
    make, any one will do."""
    best, others = max(reference.values()), max(candidate.values())
    return any(candidate.get(token) == others for token, logprob in reference.items() if logprob == best)
