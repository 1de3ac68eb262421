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


def promised(condition: Callable[[], Found | None], what: str, within: float) -> Found:
    """Polls until what the product promises within so many seconds holds, and returns what it gave.

    A poll counts for no more than it takes on a machine with processors to spare: where everything waits for them, the
    promise has as much longer, up to `WITHIN`.
    """
    left, give_up_at = within, time.monotonic() + max(WITHIN, within)
    began = time.monotonic()
    while not (found := condition()):
        assert left > 0, f"not within {within:g} s: {what}"
        assert time.monotonic() < give_up_at, f"not within {WITHIN:g} s, whatever the machine does: {what}"
        time.sleep(POLL)
        now = time.monotonic()
        left -= min(now - began, 2 * POLL)
        began = now
    return found
