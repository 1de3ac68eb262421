"""The seconds that each kind of work takes on a worker: the model of a step of continuous batching.

    step = a0 + a1·new + a2·new·(before + new/2) + a3·tokens + a4·context

`new` prompt tokens were computed in it after `before` others, `tokens` were generated and read `context` tokens of KV
cache. Cached prompt tokens are in no term but those of the context.
"""

from __future__ import annotations

from typing import NamedTuple


class Coefficients(NamedTuple):
    """Seconds."""

    a0: float  # of a step
    a1: float  # of a new prompt token
    a2: float  # of a new prompt token, for each one before it
    a3: float  # of a generated token
    a4: float  # of a generated token, for each one before it


# Before anything is known. Only what they are to each other matters: a window's work is scaled to its busy time.
PRIOR = Coefficients(8e-3, 3e-5, 5e-10, 3e-5, 3e-8)
