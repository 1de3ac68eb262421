"""Makes the plan of one request: every worker that may take it, best first, and why each other one may not."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Final

from gateway.errors import AdapterNotLoaded, BadRequest, Forbidden, GatewayError, Overloaded
from gateway.routing import filters, scorers
from gateway.routing.names import Names, Resolution
from gateway.routing.prefix import Prompt, root_of
from gateway.routing.types import NO_PREFERENCES, Ask, Drop, Dropped, Plan, Step, WorkerView
from gateway.table import Candidate, Model, Objective, Table

Views = Callable[[str, str | None], Sequence[WorkerView]]

MOST_STEPS: Final = 64  # of a plan: more would not be tried, and each costs time
ALIKE_SECONDS: Final = 0.01  # and this share of the time to the first token, by which scores differ that are the same
ALIKE_SHARE: Final = 0.02
FEWEST_OF_A_MODEL: Final = 4  # that are kept of each model all the same: another's own limits may be used up


class Router:
    """Decides over one table. `views(model, version)` gives the workers that serve it, any version for None;
    `forbidden` are the candidates that the tenant may not be answered from."""

    def __init__(self, table: Table) -> None:
        self.names = Names(table)
        self._models = table.models
        self._targets: dict[tuple[Candidate, str], Candidate] = {}  # bounded: of what the table has

    def plan(
        self, ask: Ask, resolution: Resolution, views: Views, forbidden: list[Candidate], *, draw: float, now: float
    ) -> Plan:
        """Orders the workers for `ask`. `draw` is uniform in [0, 1) and picks the version by the traffic split; `now`
        is in seconds on the clock of the workers' accounts, breakers and ejections.

        A worker barred for its failures is left out as long as there is another, never the last one.

        Raises `Forbidden` when the tenant may use none of the candidates, `Overloaded` when workers exist but none is
        up, `BadRequest` when the request's own terms exclude all.
        """
        route = resolution.route
        able: list[_Able] = []
        dropped: list[Dropped] = []
        self._find(route.candidates, 0, ask, views, forbidden, draw, able, dropped)
        if route.fallback:
            self._find(route.fallback, LAST_RESORT, ask, views, forbidden, draw, able, dropped)
        if ask.prompt is not None and len(able) > 1:
            _look_up_prefixes(ask, ask.prompt, able)
        wishes = ask.preferences
        ranked: list[_Able] = []
        has_barred = False
        terms = route.subject_to
        has_terms = wishes is not NO_PREFERENCES or terms.ttft_p95 is not None or terms.min_quality is not None
        for one in able:
            one.nanousd = scorers.nanousd(one.view, ask, one.cached_tokens)
            if has_terms:
                one.ttft_seconds = scorers.ttft_seconds(one.view, ask, one.cached_tokens, now)
                one.ttft_seconds += one.adapter_load_seconds
            reason: Drop | None = None
            if wishes is not NO_PREFERENCES:
                reason = filters.unwanted(one.view, ask, one.model, one.ttft_seconds, one.nanousd)
            if has_terms and reason is None and one.tier < LAST_RESORT:
                reason = filters.misses(one.view, one.model, terms, one.ttft_seconds)
            if reason is None:
                one.barred = filters.barred(one.view, one.engine_model, now)
                if one.barred is not None:
                    has_barred = True
                ranked.append(one)
            else:
                dropped.append(Dropped(one.view.worker.name, spell(one.target), reason))
        if has_barred:
            ranked = _unbarred(ranked, dropped)
        if not ranked:
            error = _nowhere(ask, dropped, _not_loaded((*route.candidates, *route.fallback), views), now)
            error.dropped = tuple(dropped)
            raise error
        objective, why = route.minimize, resolution.why
        if wishes.optimize is not None:
            objective, why = wishes.optimize, f"{resolution.reason}, least {wishes.optimize}"
        if len(ranked) > 1:
            ranked = _in_order(ranked, objective, ask, now)
        return Plan(route, why, tuple([one.step(ask, now) for one in ranked]), tuple(dropped))

    def _find(
        self,
        candidates: Sequence[Candidate],
        tier: int,
        ask: Ask,
        views: Views,
        forbidden: list[Candidate],
        draw: float,
        able: list[_Able],
        dropped: list[Dropped],
    ) -> None:
        """The workers that could answer go to `able`, the others to `dropped`."""
        for candidate in candidates:
            if forbidden and candidate in forbidden:
                dropped.append(Dropped("", spell(candidate), "not_allowed"))
                continue
            model = self._models[candidate.model]
            drawn, allowed = _split(model, draw) if model.traffic and candidate.version is None else _NO_SPLIT
            adapter = candidate.adapter
            target = candidate
            for view in views(candidate.model, candidate.version):
                version = view.worker.version
                if allowed is not None and version not in allowed:
                    continue
                if target.version != version:
                    target = self._target(candidate, version)
                reason = filters.cannot(view, ask, model, adapter)
                if reason is not None:
                    dropped.append(Dropped(view.worker.name, spell(target), reason))
                    continue
                sibling = drawn is not None and version != drawn
                one = _Able(view, target, model, view.base_name, tier + SIBLING if sibling else tier)
                if adapter is not None:
                    one.engine_model, one.adapter_load_seconds = _engine_adapter(view, adapter)
                able.append(one)

    def _target(self, candidate: Candidate, version: str) -> Candidate:
        target = self._targets.get((candidate, version))
        if target is None:
            target = Candidate(candidate.model, version, candidate.adapter)
            self._targets[candidate, version] = target
        return target


# Tiers: those of a lower one come first, whatever their scores.
SIBLING: Final = 1  # another version than the one that was drawn
LAST_RESORT: Final = 2  # a fallback


def _engine_adapter(view: WorkerView, adapter: str) -> tuple[str, float]:
    """What the engine calls it, and the seconds until it has it."""
    name = view.adapters.get(adapter)
    if name is not None or view.shelf is None:
        return name or "", 0.0
    return view.shelf.wanted.get(adapter, ""), view.shelf.seconds_to_load()


class _Able:
    """A worker that could answer, with what is expected of it."""

    __slots__ = (
        "adapter_load_seconds",
        "barred",
        "blocks",
        "cached_tokens",
        "engine_model",
        "model",
        "nanousd",
        "prompt",
        "root",
        "target",
        "tier",
        "ttft_seconds",
        "view",
    )

    def __init__(self, view: WorkerView, target: Candidate, model: Model, engine_model: str, tier: int) -> None:
        self.view = view
        self.target = target
        self.model = model
        self.engine_model = engine_model
        self.tier = tier
        self.prompt: Prompt | None = None
        self.root = 0
        self.cached_tokens = 0
        self.adapter_load_seconds = 0.0  # until its adapter is there
        self.nanousd = 0.0
        self.ttft_seconds = 0.0
        self.barred: Drop | None = None

    def step(self, ask: Ask, now: float) -> Step:
        terms = scorers.terms(self.view, ask, self.cached_tokens, self.nanousd, now, self.adapter_load_seconds)
        return Step(
            self.view,
            self.target,
            self.engine_model,
            terms.ttft_seconds + terms.decode_seconds,
            terms.ttft_seconds,
            self.nanousd,
            terms,
            self.cached_tokens,
            self.prompt,
            self.root,
        )


def _unbarred(ranked: list[_Able], dropped: list[Dropped]) -> list[_Able]:
    """Without those that are barred, which go to `dropped`; all of them where nobody else is there."""
    others = [one for one in ranked if one.barred is None]
    if not others:
        return ranked
    dropped += [
        Dropped(one.view.worker.name, spell(one.target), one.barred) for one in ranked if one.barred is not None
    ]
    return others


def _look_up_prefixes(ask: Ask, prompt: Prompt, able: list[_Able]) -> None:
    """How much of the prompt the prefix cache of each worker is expected to hold."""
    known: dict[tuple[Candidate, str], tuple[int, dict[int, int]]] = {}
    target: Candidate | None = None
    name = ""
    root = 0
    found: dict[int, int] = {}
    for one in able:
        cache = one.view.prefixes
        if cache is None:
            continue
        index = cache.index
        adapter = one.engine_model if one.target.adapter else ""  # with its version
        if one.target is not target or adapter != name:
            target, name = one.target, adapter
            there = known.get((target, name))
            if there is None:
                root = root_of(target.model, target.version or "", name, ask.tenant.name)
                there = known[target, name] = (root, index.match(prompt.chain, root))
            root, found = there
        one.prompt, one.root = prompt, root
        if found:
            blocks = found.get(cache.slot, 0)
            if blocks:
                tokens = int(blocks * index.block_tokens * one.view.reuse)
                one.cached_tokens = min(tokens, ask.prompt_tokens - 1)


def _in_order(ranked: list[_Able], objective: Objective, ask: Ask, now: float) -> list[_Able]:
    """Each worker once, at its best place: a second attempt goes to another worker."""
    keys: list[tuple[int, float, float, int]] = []
    evened = _evened_costs(ranked) if objective == "cost" else None
    for at, one in enumerate(ranked):
        score = scorers.score_seconds(one.view, ask, one.cached_tokens, one.nanousd, now)
        score += one.adapter_load_seconds
        if objective == "latency":
            keys.append((one.tier, score, one.nanousd, at))
        elif evened is not None:
            keys.append((one.tier, evened[at], score, at))
        else:
            keys.append((one.tier, -scorers.quality(one.model.versions[one.target.version or ""]), score, at))
    keys.sort()
    if objective == "latency":
        _take_turns(keys, ranked)
    seen: set[str] = set()
    of_model: dict[str, int] = {}
    kept: list[_Able] = []
    for _, _, _, at in keys:
        one = ranked[at]
        name = one.view.worker.name
        if name in seen:
            continue
        count = of_model.get(one.target.model, 0)
        if len(kept) >= MOST_STEPS and count >= FEWEST_OF_A_MODEL:
            continue
        seen.add(name)
        of_model[one.target.model] = count + 1
        kept.append(one)
    return kept


def _take_turns(keys: list[tuple[int, float, float, int]], ranked: list[_Able]) -> None:
    """Of those that are as good as the best the one comes first that was sent to longest ago: a hair's difference would
    have one worker's prefix cache churned, and the others' idle."""
    tier, least, _, at = keys[0]
    bound = least + ALIKE_SECONDS + ALIKE_SHARE * ranked[at].ttft_seconds
    first = 0
    for place in range(1, len(keys)):
        key = keys[place]
        if key[0] != tier or key[1] > bound:
            break
        if ranked[key[3]].view.dispatched_at < ranked[keys[first][3]].view.dispatched_at:
            first = place
    if first:
        keys.insert(0, keys.pop(first))


def _evened_costs(ranked: list[_Able]) -> list[float]:
    """What each costs, the same for workers of the same rate that serve the same: that one of them measured a little
    faster than the other is no reason to send all requests there."""
    least: dict[tuple[Candidate, int], float] = {}
    for one in ranked:
        if one.view.worker.price is None:
            place = (one.target, one.view.worker.hourly)
            least[place] = min(one.nanousd, least.get(place, one.nanousd))
    return [
        one.nanousd if one.view.worker.price is not None else least[one.target, one.view.worker.hourly]
        for one in ranked
    ]


@functools.lru_cache(maxsize=4096)
def spell(target: Candidate) -> str:
    """`model@version:adapter`."""
    version = f"@{target.version}" if target.version else ""
    adapter = f":{target.adapter}" if target.adapter else ""
    return f"{target.model}{version}{adapter}"


_Split = tuple[str | None, frozenset[str] | None]
_NO_SPLIT: Final[_Split] = (None, None)


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


def _not_loaded(candidates: Sequence[Candidate], views: Views) -> tuple[str, float]:
    """Why an adapter could not be loaded, "" where none of them failed; and until when, on the clock of the shelves."""
    for candidate in candidates:
        if candidate.adapter is None:
            continue
        for view in views(candidate.model, candidate.version):
            failure = None if view.shelf is None else view.shelf.failure(candidate.adapter)
            if failure is not None:
                return failure.why, failure.until
    return "", 0.0


def _nowhere(ask: Ask, dropped: list[Dropped], not_loaded: tuple[str, float], now: float) -> GatewayError:
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
    why, until = not_loaded
    if "adapter_failed" in reasons and why:
        return AdapterNotLoaded(
            f"The adapter of `{ask.model}` could not be loaded: {why}.", retry_after=max(1.0, until - now)
        )
    if reasons - {"not_allowed"} == {"adapter_missing"}:
        error = AdapterNotLoaded(
            f"No worker of `{ask.model}` holds its adapter, or takes any while it runs: that is for the operator of "
            "this gateway to change."
        )
        error.retryable = False
        return error
    if reasons & {"down", "draining", "adapter_missing", "adapter_elsewhere", "adapter_failed"}:
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
