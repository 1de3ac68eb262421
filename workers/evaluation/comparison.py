"""Two models' words about the same text, held against each other: divergence, same top token, perplexity. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from workers.evaluation import bootstrap
from workers.evaluation.distributions import Scored, divergence, same_top
from workers.evaluation.result import Divergence, LongContext, Perplexity


@dataclass(frozen=True, slots=True)
class Compared:
    """One window. `klds` are by position, in nats; the sums are of negative log-probabilities of the true tokens."""

    klds: tuple[float, ...]
    same: int
    reference_nll: float
    candidate_nll: float

    @property
    def tokens(self) -> int:
        return len(self.klds)


def compare(reference: Scored, candidate: Scored) -> Compared:
    """Of the same window. Raises ValueError when the two are not of the same length."""
    pairs = list(zip(reference, candidate, strict=True))
    return Compared(
        klds=tuple(divergence(one.told, other.told) for one, other in pairs),
        same=sum(same_top(one.told, other.told) for one, other in pairs),
        reference_nll=-sum(reference.truths),
        candidate_nll=-sum(candidate.truths),
    )


def divergence_of(windows: Sequence[Compared], top_k: int, seed: int) -> Divergence:
    counts = [window.tokens for window in windows]
    klds = sorted(kld for window in windows for kld in window.klds)
    return Divergence(
        tokens=len(klds),
        top_k=top_k,
        mean_kld=bootstrap.of_mean([math.fsum(window.klds) for window in windows], counts, seed),
        p99_kld=klds[min(len(klds) - 1, math.ceil(0.99 * len(klds)) - 1)],
        max_kld=klds[-1],
        same_top=bootstrap.of_mean([float(window.same) for window in windows], counts, seed),
    )


def perplexity_of(windows: Sequence[Compared], seed: int) -> Perplexity:
    """The ratio is paired by window: what makes a window hard for both cancels."""
    counts = [window.tokens for window in windows]
    tokens = sum(counts)
    losses = [window.candidate_nll - window.reference_nll for window in windows]
    return Perplexity(
        tokens=tokens,
        reference=exp(math.fsum(window.reference_nll for window in windows) / tokens),
        candidate=exp(math.fsum(window.candidate_nll for window in windows) / tokens),
        ratio=bootstrap.of(lambda loss, tokens: exp(loss / tokens), losses, counts, seed),
    )


def long_context_of(windows: Sequence[Compared], context: int) -> LongContext:
    """`windows` are the ends of contexts of `context` tokens. Raises ValueError without any."""
    tokens = sum(window.tokens for window in windows)
    if not tokens:
        raise ValueError("no position was measured")
    loss = math.fsum(window.candidate_nll - window.reference_nll for window in windows)
    return LongContext(
        context=context,
        tokens=tokens,
        perplexity_ratio=exp(loss / tokens),
        mean_kld=math.fsum(kld for window in windows for kld in window.klds) / tokens,
        same_top=sum(window.same for window in windows) / tokens,
    )


def exp(value: float) -> float:
    """A broken model's loss can be beyond what a float's exponential holds; JSON has no infinity."""
    return math.exp(min(value, 700.0))
