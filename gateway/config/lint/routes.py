"""Checks of routes.yaml: what is named exists, every route can be reached, and no demand is beyond all candidates."""

from __future__ import annotations

from gateway.config.compile import compile_version
from gateway.config.draft import Draft
from gateway.config.lint.matches import Matches
from gateway.config.lint.shadow import Shadows
from gateway.config.problems import Place
from gateway.config.references import References
from gateway.config.written.routes import Route
from gateway.routing.scorers import quality

_PARTS = ("connect", "first_token", "idle")  # each of them within `total`


def lint_routes(draft: Draft, references: References) -> None:
    source = draft.source
    matches = Matches(draft, references)
    shadows = Shadows(references.follow, matches.tiers.get)
    places: dict[str, Place] = {}
    for index, route in enumerate(draft.routes):
        if route is None:
            continue
        if route.name in places:
            source.findings.error(
                source.place("routes", index, "name"),
                f"a route is already called `{route.name}` at {places[route.name]}",
                "rename one of them",
            )
        places.setdefault(route.name, source.place("routes", index, "name"))
        matches.check(index, route)
        targets_exist = _targets(draft, references, index, route)
        if not draft.whole("routes", index):
            continue
        if hiding := shadows.hiding(route.match):
            names = " and ".join(f"`{name}` ({places[name]})" for name in hiding[:4])
            source.findings.error(
                source.place("routes", index),
                f"the route `{route.name}` is never reached: {names} before it takes all it matches",
                "move it up, or narrow what stands before it with `tenant`, `tier` or `max_prompt_tokens`",
            )
        shadows.add(route.name, route.match)
        if targets_exist:
            _quality(draft, references, index, route)
            _length(draft, references, index, route)
        _timeout(draft, index, route)


def _targets(draft: Draft, references: References, index: int, route: Route) -> bool:
    """Whether every candidate and fallback stands for a model that is whole."""
    source, whole = draft.source, True
    for key, names in (("candidates", route.candidates), ("fallback", route.fallback)):
        for i, name in enumerate(names):
            place = source.place("routes", index, key, i)
            if name in names[:i]:
                source.findings.error(place, f"`{name}` is here twice", "delete one of them")
            if circle := _circle(draft, references, index, references.follow(name)):
                source.findings.error(
                    place,
                    f"`{name}` leads back to this route ({' → '.join(circle)})",
                    "write the models that are to answer, not the name of a route",
                )
            elif complaint := references.complaint(name, virtual=False):
                source.findings.error(place, complaint.wrong, complaint.remedy)
            if references.model(name) is None or references.complaint(name, virtual=False):
                whole = False
    return whole


def _circle(draft: Draft, references: References, start: int, name: str) -> list[str] | None:
    """The routes from `start` back to it, when `name`, one of its targets, is what routes match and not a model."""
    seen: set[int] = set()
    waiting: list[tuple[str, list[str]]] = [(name, [_name(draft, start)])]
    while waiting:
        name, path = waiting.pop()
        if name not in references.virtual:
            continue
        for index, route in enumerate(draft.routes):
            if route is None or name not in (route.match.model or ()):
                continue
            if index == start:
                return [*path, route.name]
            if index not in seen:
                seen.add(index)
                further = (*route.candidates, *route.fallback)
                waiting.extend((references.follow(target), [*path, route.name]) for target in further)
    return None


def _name(draft: Draft, index: int) -> str:
    route = draft.routes[index]
    return route.name if route else ""


def _quality(draft: Draft, references: References, index: int, route: Route) -> None:
    least = route.subject_to.min_quality
    if least is None:
        return
    source = draft.source
    best: dict[str, float] = {}
    for name in route.candidates:
        versions = references.versions(name)
        best[name] = max(quality(compile_version(version, spec)) for version, spec in versions.items())
    if all(value < least for value in best.values()):
        name = max(best, key=best.__getitem__)
        source.findings.error(
            source.place("routes", index, "subject_to", "min_quality"),
            f"no candidate of `{route.name}` reaches a quality of {least}; the best, `{name}`, has {best[name]}",
            f"write at most {best[name]}, or add a better candidate",
        )
        return
    for i, name in enumerate(route.candidates):
        if best[name] < least:
            source.findings.warn(
                source.place("routes", index, "candidates", i),
                f"`{name}` has a quality of {best[name]} and is never chosen, as `min_quality` is {least}",
                "delete it, or lower `min_quality`",
            )


def _length(draft: Draft, references: References, index: int, route: Route) -> None:
    tokens = route.match.max_prompt_tokens
    targets = (references.model(name) for name in (*route.candidates, *route.fallback))
    longest = max(model.context for model in targets if model is not None)
    if tokens is not None and tokens > longest:
        draft.source.findings.error(
            draft.source.place("routes", index, "match", "max_prompt_tokens"),
            f"`{route.name}` takes prompts of {tokens} tokens, but no candidate has a context above {longest}",
            f"write at most {longest}, or add a candidate with a longer context",
        )


def _timeout(draft: Draft, index: int, route: Route) -> None:
    """Only what is written is compared: a short `total` alone is no contradiction of a default."""
    timeout = route.timeout
    if "total" not in timeout.model_fields_set:
        return
    for part in _PARTS:
        if part in timeout.model_fields_set and getattr(timeout, part) > timeout.total:
            draft.source.findings.error(
                draft.source.place("routes", index, "timeout", part),
                f"`{part}` is longer than `total`, so it can never pass",
                f"shorten `{part}`, or lengthen `total`",
            )
