"""What work costs, in integer nano-USD: by the token, or by the worker's time shared among those it works for."""

from __future__ import annotations

from typing import Final

from gateway.table import Price

SECOND: Final = 1_000_000_000  # nanoseconds
_MILLION: Final = 1_000_000
_HOUR: Final = 3_600 * SECOND


def token_cost(price: Price, prompt: int, cached: int, output: int) -> int:
    """The cost at token prices; `cached` is the part of `prompt` that a prefix cache served. Rounded once, half up."""
    cached = min(cached, prompt)
    millionths = (prompt - cached) * price.input + cached * price.cached_input + output * price.output
    return (millionths + _MILLION // 2) // _MILLION


def gpu_cost(nanoseconds: int, hourly: int) -> int:
    """The cost of a share of a worker's time, at nano-USD per hour. Rounded half up."""
    return (nanoseconds * hourly + _HOUR // 2) // _HOUR


class Meter:
    """Shares a worker's busy time equally among the requests it works on at each moment, losing no nanosecond.

    A virtual clock advances by dt/n while n requests are in flight; a request's share is what it advanced between its
    entry and its end. The remainders of that division are carried, and the request that leaves the worker idle takes
    the last one: once idle, the shares sum to the busy time exactly.
    """

    __slots__ = ("_at", "_carry", "_clock", "busy", "in_flight")

    def __init__(self) -> None:
        self.in_flight = 0
        self.busy = 0  # nanoseconds with at least one request in flight
        self._at = 0
        self._clock = 0  # the virtual one
        self._carry = 0  # nanoseconds of busy time not yet on the virtual clock, fewer than were in flight

    def enter(self, now: float) -> int:
        """A request begins, at `now` on a monotonic clock in seconds. Returns the token `leave` wants."""
        self._advance(now)
        self.in_flight += 1
        return self._clock

    def read(self, now: float) -> int:
        """Nanoseconds with at least one request in flight, up to `now`."""
        self._advance(now)
        return self.busy

    def share(self, token: int, now: float) -> int:
        """What a request that has entered and not left has had so far, in nanoseconds."""
        self._advance(now)
        return self._clock - token

    def leave(self, token: int, now: float) -> int:
        """A request ends; its share in nanoseconds. To be called once for each entry."""
        if self.in_flight == 0:
            raise ValueError("a request left the meter that had not entered it, or left it twice")
        self._advance(now)
        share = self._clock - token
        self.in_flight -= 1
        if self.in_flight == 0:
            share += self._carry
            self._carry = 0
        return share

    def _advance(self, now: float) -> None:
        at = int(now * SECOND)
        elapsed = at - self._at
        if elapsed <= 0:  # the same moment, or callers that read the clock in another order than they arrive
            return
        self._at = at
        if self.in_flight:
            self.busy += elapsed
            unshared = elapsed + self._carry  # divmod would make objects of its two results
            self._clock += unshared // self.in_flight
            self._carry = unshared % self.in_flight
