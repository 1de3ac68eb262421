"""In which order examples are learnt: shuffled by seed, those of similar length together, so that little is padded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from random import Random

from workers.adapters.encoding import IGNORED, Document

GROUP_BATCHES = 50  # among so many batches examples are sorted by their length

PADDING = 0  # any token: what is learnt never looks to its right, and the label says that it is not learnt itself


def steps_of(epochs: float, examples: int, batch_size: int) -> int:
    """How many batches go over the examples so many times; at least one."""
    return max(1, round(epochs * math.ceil(examples / batch_size)))


def batches(documents: Sequence[Document], size: int, random: Random) -> Iterator[list[Document]]:
    """Endless; each pass has every document once, in batches of `size` (the last of a pass may be smaller)."""
    while True:
        shuffled = random.sample(documents, len(documents))
        found: list[list[Document]] = []
        for start in range(0, len(shuffled), GROUP_BATCHES * size):
            group = sorted(shuffled[start : start + GROUP_BATCHES * size], key=lambda document: len(document.tokens))
            found += [group[at : at + size] for at in range(0, len(group), size)]
        random.shuffle(found)
        yield from found


def padded(batch: Sequence[Document]) -> tuple[list[list[int]], list[list[int]]]:
    """Tokens and labels as rectangles, filled up on the right."""
    length = max(len(document.tokens) for document in batch)
    tokens = [[*one.tokens, *[PADDING] * (length - len(one.tokens))] for one in batch]
    labels = [[*one.labels, *[IGNORED] * (length - len(one.labels))] for one in batch]
    return tokens, labels
