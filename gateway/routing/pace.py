"""What is learnt from request to request: how many second attempts a route has left, how long a model takes."""

from __future__ import annotations

from gateway.routing.allowance import Allowance
from gateway.routing.latency import Latencies

FIRST_RETRIES = 10.0  # a quiet gateway can fail over this often before its traffic has earned it


class Allowances:
    """One route's."""

    __slots__ = ("hedges", "retries")

    def __init__(self) -> None:
        self.retries = Allowance(start=FIRST_RETRIES, cap=100.0)
        self.hedges = Allowance(start=0.0, cap=10.0)


class Pace:
    """Of one process. Keys are names from the configuration, so there are few."""

    __slots__ = ("_allowances", "_latencies")

    def __init__(self) -> None:
        self._allowances: dict[str, Allowances] = {}
        self._latencies: dict[tuple[str, bool], Latencies] = {}

    def allowances(self, route: str) -> Allowances:
        found = self._allowances.get(route)
        if found is None:
            found = self._allowances[route] = Allowances()
        return found

    def latencies(self, model: str, streamed: bool) -> Latencies:
        """To the first token of a stream, to the end of an answer that is not streamed."""
        found = self._latencies.get((model, streamed))
        if found is None:
            found = self._latencies[model, streamed] = Latencies()
        return found
