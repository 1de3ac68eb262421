"""Makes the plan of one request: every worker that may take it, best first, and why each other one may not."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from gateway.errors import BadRequest, Forbidden, GatewayError, Overloaded
from gateway.routing import filters, scorers
from gateway.routing.names import Names, Resolution
from gateway.routing.types import NO_PREFERENCES, Ask, Drop, Dropped, Plan, Step, WorkerView
from gateway.table import Candidate, Model, Objective, Table

Views = Callable[[str, str | None], Sequence[WorkerView]]
Permits = Callable[[Candidate], bool]


# A step behind its place: candidates before fallbacks, the drawn version before its siblings, then the score, what
# breaks a tie, and the position.
_Ranked = tuple[bool, bool, float, float, int, Step]


class Router:
    """Decides over one table. `views(model, version)` gives the workers that serve it, any version for None;
    `permits(candidate)` says whether the tenant may be answered from there."""

    def __init__(self, table: Table) -> None:
        self.names = Names(table)
        self._models = table.models

    def plan(
        self, ask: Ask, resolution: Resolution, views: Views, permits: Permits, *, draw: float, now: float
    ) -> Plan:
        """Orders the workers for `ask`. `draw` is uniform in [0, 1) and picks the version by the traffic split; `now`
        is in seconds on the clock of breakers and ejections.

        A worker barred for its failures is left out as long as there is another, never the last one.

        Raises `Forbidden` when the tenant may use none of the candidates, `Overloaded` when workers exist but none is
        up, `BadRequest` when the request's own terms exclude all.
        """
        route, wishes = resolution.route, ask.preferences
        objective = wishes.optimize or route.minimize
        ranked: list[_Ranked] = []
        barred: list[tuple[_Ranked, Dropped]] = []
        dropped: list[Dropped] = []
        for last_resort, candidates in ((False, route.candidates), (True, route.fallback)):
            for candidate in candidates:
                if not permits(candidate):
                    dropped.append(Dropped("", spell(candidate), "not_allowed"))
                    continue
                model = self._models[candidate.model]
                drawn, allowed = _split(model, draw) if model.traffic and candidate.version is None else _NO_SPLIT
                for view in views(candidate.model, candidate.version):
                    version = view.worker.version
                    if allowed is not None and version not in allowed:
                        continue
                    reason = filters.cannot(view, ask, model, candidate.adapter)
                    if reason is None and wishes is not NO_PREFERENCES:
                        reason = filters.unwanted(view, ask, model)
                    if reason is None and not last_resort:
                        reason = filters.misses(view, ask, model, route.subject_to)
                    target = Candidate(candidate.model, version, candidate.adapter)
                    if reason is not None:
                        dropped.append(Dropped(view.worker.name, spell(target), reason))
                        continue
                    step = _predict(view, ask, target)
                    score, tie = _rank(objective, step, model)
                    sibling = drawn is not None and version != drawn
                    place = (last_resort, sibling, score, tie, len(ranked) + len(barred), step)
                    reason = filters.barred(view, step.engine_model, now)
                    if reason is None:
                        ranked.append(place)
                    else:
                        barred.append((place, Dropped(view.worker.name, spell(target), reason)))
        if barred:
            if ranked:
                dropped += [why for _, why in barred]
            else:
                ranked = [place for place, _ in barred]
        if not ranked:
            raise _nowhere(ask, dropped)
        why = f"{resolution.reason}, least {objective}"
        if len(ranked) == 1:
            return Plan(route, why, (ranked[0][-1],), tuple(dropped))
        ranked.sort()  # the position differs, so no two steps are compared
        return Plan(route, why, _distinct(ranked), tuple(dropped))


@functools.lru_cache(maxsize=4096)
def spell(target: Candidate) -> str:
    """`model@version:adapter`."""
    version = f"@{target.version}" if target.version else ""
    adapter = f":{target.adapter}" if target.adapter else ""
    return f"{target.model}{version}{adapter}"


_Split = tuple[str | None, frozenset[str] | None]
_NO_SPLIT: _Split = (None, None)


def _split(model: Model, draw: float) -> _Split:
    """The version the traffic split draws, and those it allows at all."""
    point = draw * sum(weight for _, weight in model.traffic)
    drawn = None
    for name, weight in model.traffic:
        if point < weight:
            drawn = name
            break
        point -= weight
    return drawn, frozenset(name for name, weight in model.traffic if weight > 0)


def _predict(view: WorkerView, ask: Ask, target: Candidate) -> Step:
    first = scorers.ttft_seconds(view, ask)
    engine_model = view.adapters[target.adapter] if target.adapter else view.base_name
    seconds = first + scorers.decode_seconds(view, ask)
    return Step(view, target, engine_model, seconds, first, scorers.nanousd(view, ask))


def _rank(objective: Objective, step: Step, model: Model) -> tuple[float, float]:
    if objective == "latency":
        return step.seconds, step.nanousd
    if objective == "cost":
        return step.nanousd, step.seconds
    return -scorers.quality(model.versions[step.target.version or ""]), step.seconds


def _distinct(ranked: list[_Ranked]) -> tuple[Step, ...]:
    """Each worker once, at its best place: a second attempt goes to another worker."""
    steps: dict[str, Step] = {}
    for *_, step in ranked:
        steps.setdefault(step.view.worker.name, step)
    return tuple(steps.values())


def _nowhere(ask: Ask, dropped: list[Dropped]) -> GatewayError:
    reasons: set[Drop] = {item.reason for item in dropped}
    if not dropped:
        return Overloaded(f"No worker serves `{ask.model}` at the moment.", retry_after=5.0)
    if reasons == {"not_allowed"}:
        return Forbidden(
            f"This API key of tenant `{ask.tenant.name}` does not have access to the model `{ask.model}`. "
            "`GET /v1/models` lists what it may use; the operator of this gateway can grant more.",
            param="model",
        )
    if reasons == {"task"}:
        return BadRequest(f"The model `{ask.model}` does not support this endpoint.", param="model")
    if reasons & {"down", "draining", "adapter_missing"}:
        return Overloaded(f"No worker of `{ask.model}` is ready: try again shortly.", retry_after=5.0)
    if "context_length" in reasons:
        return BadRequest(
            f"The prompt of about {ask.prompt_tokens} tokens is longer than the context of `{ask.model}`.",
            param="messages",
            code="context_length_exceeded",
        )
    seen = [item for item in dropped if item.reason != "not_allowed"]  # what it may not use it need not know of
    listed = ", ".join(f"{item.target} ({item.reason})" for item in seen[:8])
    return BadRequest(f"No candidate meets the request's `routing` terms or the route's: {listed}.", param="routing")
