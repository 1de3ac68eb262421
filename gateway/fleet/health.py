"""The states of a worker's health, and all that moves it from one to another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

State = Literal["down", "up", "doubtful"]  # a doubtful worker still takes requests
Event = Literal[
    "passed",  # a probe; from `down` that is a whole bring-up with a real inference
    "failed",  # a probe
    "lost",  # a request could not reach it
]

TRANSITIONS: Mapping[tuple[State, Event], State] = {
    ("down", "passed"): "up",
    ("down", "failed"): "down",
    ("down", "lost"): "down",
    ("up", "passed"): "up",
    ("up", "failed"): "doubtful",  # one lost probe is a hiccup
    ("up", "lost"): "down",  # a lost request is not: the next one would be lost as well
    ("doubtful", "passed"): "up",
    ("doubtful", "failed"): "down",
    ("doubtful", "lost"): "down",
}
