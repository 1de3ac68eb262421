"""A circuit breaker: whether one model on one worker is asked at all, after it has failed again and again.

Health probes see a worker that is gone; this sees one that answers its probes and fails its requests, or fails those
of a single adapter. It is made at the first failure, so a worker that never fails has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

FAILURES_TO_TRIP: Final = 5  # in a row
FIRST_PAUSE: Final = 1.0  # seconds; doubled each time the trial after it fails
LONGEST_PAUSE: Final = 30.0

State = Literal["closed", "open", "half_open"]
Event = Literal[
    "failed",  # an attempt, not yet one too many
    "tripped",  # by one failure too many
    "succeeded",  # an attempt
    "waited",  # the pause is over and an attempt is made
]

TRANSITIONS: Mapping[tuple[State, Event], State] = {
    ("closed", "failed"): "closed",
    ("closed", "tripped"): "open",
    ("closed", "succeeded"): "closed",
    ("open", "failed"): "open",  # attempts begun before it opened, or when no other worker was left
    ("open", "succeeded"): "closed",
    ("open", "waited"): "half_open",
    ("half_open", "failed"): "half_open",  # an earlier attempt's end says nothing about the trial
    ("half_open", "tripped"): "open",
    ("half_open", "succeeded"): "closed",
}


class Breaker:
    """Times are seconds on a clock the caller reads."""

    __slots__ = ("_failures", "_pause", "_trying", "_until", "state")

    def __init__(self) -> None:
        self.state: State = "closed"
        self._failures = 0  # in a row
        self._pause = FIRST_PAUSE
        self._until = 0.0  # open until then
        self._trying = False  # half open, and the one trial is under way

    def allows(self, now: float) -> bool:
        """Whether an attempt may be made: while half open one at a time, as a trial."""
        if self.state == "closed":
            return True
        return now >= self._until and not self._trying

    def began(self, now: float) -> bool:
        """An attempt is made; whether it is the trial, which must end in `failed`, `succeeded` or `left_open`."""
        if self.state == "closed" or not self.allows(now):
            return False
        if self.state == "open":
            self._move("waited")
        self._trying = True
        return True

    def failed(self, now: float, *, trial: bool) -> None:
        self._failures += 1
        if trial and self._trying:
            self._trying = False
            self._pause = min(LONGEST_PAUSE, 2 * self._pause)
        elif self.state != "closed" or self._failures < FAILURES_TO_TRIP:
            self._move("failed")
            return
        self._until = now + self._pause
        self._move("tripped")

    def succeeded(self) -> None:
        self._move("succeeded")
        self._failures = 0
        self._pause = FIRST_PAUSE
        self._trying = False

    def left_open(self) -> None:
        """The trial ended without a verdict, as when its client left."""
        self._trying = False

    def _move(self, event: Event) -> None:
        self.state = TRANSITIONS[self.state, event]
