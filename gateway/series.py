"""What requests have in common that one key sends to one endpoint for one name, and that one worker answers: the names
they are booked, counted, logged and remembered under, put into the form of each once and not for every request."""

from __future__ import annotations

import functools
from typing import Final, final

from gateway.ledger.record import Booking, CostBasis, Label, Line
from gateway.routing.router import spell
from gateway.routing.types import Plan
from gateway.spelling import digits, flag, quoted
from gateway.table import Candidate, Key
from gateway.telemetry import Labels, Metrics, Tally

MOST_SERIES: Final = 8_192  # that are kept: names of the configuration, and what clients call a model
MOST_ENDINGS: Final = 16  # of each

_NOWHERE: Final = Candidate("", None)


@functools.lru_cache(maxsize=4096)
def place_lines(model: str, worker: str, route: str) -> tuple[bytes, ...]:
    """Header lines of where an answer came from, those that are known. All are names from the configuration."""
    named = (("model", model), ("worker", worker), ("route", route))
    return tuple([f"x-tollgate-{name}: {value}".encode() for name, value in named if value])


@final
class Ending:
    """How requests of a series ended. Most end alike."""

    __slots__ = ("asked", "cache", "cached", "decided", "logged", "outcome", "status", "stream", "tally")

    def __init__(self, asked: int, cache: str, stream: bool, status: int, outcome: str, tally: Tally) -> None:
        self.asked = asked  # workers
        self.cache = cache
        self.stream = stream
        self.status = status
        self.outcome = outcome
        self.tally = tally
        self.cached = quoted(cache)
        names = digits(asked), self.cached, flag(stream), digits(status), quoted(outcome)
        self.logged = b'"attempts":%b,"cache":%b,"stream":%b,"status":%b,"outcome":%b' % names
        self.decided = b"%b,%b,%b" % names[2:]


@final
class Series:
    """Texts are JSON, `places` lines of the answer's head. Names are "" of a request that never got that far."""

    __slots__ = (
        "_config",
        "_endings",
        "_key",
        "_target",
        "asked",
        "booking",
        "config",
        "decided",
        "decided_by",
        "line",
        "logged",
        "places",
        "tried",
        "worker",
    )

    def __init__(
        self, config: str, key: Key | None, asked: str, plan: Plan | None, target: Candidate | None, line: Line
    ) -> None:
        self._config = config
        self._key = key
        self._target = target
        self._endings: list[Ending] = []
        self.line = line
        self.booking = Booking(line, Label(asked))
        tenant, endpoint, route, worker = map(quoted, (line.tenant, line.endpoint, line.route, line.worker))
        reason, place = "" if plan is None else plan.reason, "" if target is None else spell(target)
        key_id, model_asked, model, why = map(quoted, (line.key_id, asked, place, reason))
        self.config = quoted(config)
        self.asked = model_asked
        self.worker = worker
        # of the line in the log
        self.logged = (
            b'"tenant":%b,"key":%b,"endpoint":%b,"model_asked":%b,"model":%b,"route":%b,"reason":%b,"worker":%b'
            % (tenant, key_id, endpoint, model_asked, model, route, why, worker)
        )
        self.places = place_lines(place, line.worker, line.route)
        # of the record of the decision
        self.decided = b"%b,%b,%b,%b" % (self.config, tenant, b"null" if key is None else key_id, endpoint)
        self.decided_by = b"%b,%b" % (route, why)
        self.tried = b"%b,%b" % (worker, model)

    def is_of(self, config: str, key: Key | None, target: Candidate | None, cost_basis: CostBasis) -> bool:
        """Whether all that is no part of what it is kept under is the same."""
        return (
            self._key is key
            and self._target is target
            and self._config == config
            and self.line.cost_basis == cost_basis
        )

    def ending(self, metrics: Metrics, asked: int, cache: str, stream: bool, status: int, outcome: str) -> Ending:
        for one in self._endings:
            if (
                one.status == status
                and one.asked == asked
                and one.outcome == outcome
                and one.cache == cache
                and one.stream is stream
            ):
                return one
        line = self.line
        labels = Labels(line.tenant, line.model, line.version, line.route, line.endpoint, status)
        one = Ending(asked, cache, stream, status, outcome, metrics.tally(labels))
        if len(self._endings) < MOST_ENDINGS:
            self._endings.append(one)
        return one


class AllSeries:
    """Those of one settlement."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str, str, str, str, str], Series] = {}

    def find(
        self,
        config: str,
        key: Key | None,
        endpoint: str,
        asked: str,
        plan: Plan | None,
        target: Candidate | None,
        worker: str,
        cost_basis: CostBasis,
    ) -> Series:
        """`config` is the revision of the table. What is not known is None or ""."""
        key_id = "" if key is None else key.id
        route, reason = ("", "") if plan is None else (plan.route.name, plan.reason)
        names = key_id, endpoint, asked, route, reason, worker
        series = self._kept.get(names)
        if series is None or not series.is_of(config, key, target, cost_basis):
            model, version, adapter = _NOWHERE if target is None else target
            tenant = "" if key is None else key.tenant.name
            line = Line(tenant, key_id, endpoint, model, version or "", adapter or "", route, worker, cost_basis)
            series = Series(config, key, asked, plan, target, line)
            if len(self._kept) >= MOST_SERIES:
                self._kept.clear()
            self._kept[names] = series
        return series
