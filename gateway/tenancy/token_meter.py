"""Tokens per minute: reserve what a request may use, settle what it used, in exact integers.

    committed   settled tokens, draining at the limit's own rate (a full minute's worth drains in a minute)
    reserved    tokens of requests in flight; they do not drain, so a long stream keeps its room until it ends

A reservation is granted while `committed + reserved + wanted <= limit`. What is settled beyond its reservation is a
debt: `committed` may then exceed the limit, and nothing is granted until it has drained.
"""

from __future__ import annotations

from dataclasses import dataclass

MINUTE = 60_000_000_000  # nanoseconds; also how many units of `committed` make a token, so that draining is exact


@dataclass(slots=True)
class TokenMeter:
    committed: int = 0  # in tokens / MINUTE
    reserved: int = 0  # in tokens
    per_minute: int = 0  # the rate it drains at: the limit as last seen
    drained_at: int = 0  # nanoseconds

    def wait(self, wanted: int, per_minute: int, now: int) -> int:
        """Nanoseconds until `wanted` tokens would fit if nothing else happened; 0 when they fit now."""
        self.per_minute = per_minute
        if self.drained_at > now + MINUTE:  # the clock was set back: draining must not stop until it has caught up
            self.drained_at = now
        if now > self.drained_at:
            self._drain(now)
        excess = self.committed + (self.reserved + wanted - per_minute) * MINUTE
        return -(-excess // per_minute) if excess > 0 else 0

    def reserve(self, wanted: int) -> None:
        """Take the room; the caller has asked `wait` in the same breath."""
        self.reserved += wanted

    def settle(self, reserved: int, used: int, now: int) -> None:
        """Give the reservation back and commit what was used."""
        if now > self.drained_at:
            self._drain(now)
        self.reserved -= reserved
        self.committed += used * MINUTE

    def remaining(self, per_minute: int, now: int) -> int:
        """Whole tokens that would be granted right now."""
        self.per_minute = per_minute
        if now > self.drained_at:
            self._drain(now)
        free = (per_minute - self.reserved) * MINUTE - self.committed
        return free // MINUTE if free > 0 else 0

    def full_in(self) -> int:
        """Nanoseconds until the whole limit is free again if every reservation were used up now."""
        return -(-(self.committed + self.reserved * MINUTE) // self.per_minute)

    def _drain(self, now: int) -> None:
        """For a `now` after the last: a caller may be a little late with the time it read, and the same second must not
        drain twice."""
        left = self.committed - (now - self.drained_at) * self.per_minute
        self.committed = left if left > 0 else 0
        self.drained_at = now
