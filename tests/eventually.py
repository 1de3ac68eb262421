"""Waits for what another process or thread does, without guessing how long that takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

WITHIN = 30.0  # seconds; what is waited for takes a fraction of one
POLL = 0.02


def eventually(condition: Callable[[], Found | None], what: str, within: float = WITHIN) -> Found:
    """Polls until the condition holds and returns what it gave."""
    give_up_at = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < give_up_at, f"not within {within:g} s: {what}"
        time.sleep(POLL)
    return found
