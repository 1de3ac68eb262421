"""From the name a client asks for to the route that takes the request and the places it may go.

A name is `model`, `model@version`, `model:adapter` or `model@version:adapter`, an alias of one, or a virtual name such
as `auto` that only routes know.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.errors import BadRequest, NotFound
from gateway.routing.types import Ask
from gateway.table import CachePolicy, Candidate, Match, Model, Retry, Route, SubjectTo, Table, Timeout


class Resolution:
    """`route` says where the request may go, `reason` why by that one; `why` is both that and what it minimizes."""

    __slots__ = ("reason", "route", "why")

    def __init__(self, route: Route, reason: str) -> None:
        self.route = route
        self.reason = reason
        self.why = f"{reason}, least {route.minimize}"


class Names:
    """The names of one table, compiled for lookup."""

    def __init__(self, table: Table) -> None:
        self._models = table.models
        self._cache = CachePolicy(ttl=table.settings.cache.default_ttl)
        self._named: dict[str, Candidate] = {}
        for alias in table.aliases:
            candidate = parse(_follow(alias, table.aliases), table.models)
            if candidate is not None:  # an alias of a virtual name is resolved by the routes
                self._named[alias] = candidate
        self._aliases = table.aliases
        self._direct: dict[Candidate, Resolution] = {}
        self._by_route = [Resolution(route, f"route {route.name}") for route in table.routes]
        self.virtual = frozenset(
            name
            for route in table.routes
            for name in route.match.models or ()
            if parse(name, table.models) is None and name not in table.aliases
        )

    def find(self, asked: str) -> Candidate | None:
        """The model, version and adapter a name stands for, None when it stands for none."""
        candidate = self._named.get(asked)
        if candidate is None:
            candidate = parse(asked, self._models)
            if candidate is not None:
                self._named[asked] = candidate  # bounded: only names of existing things are kept
        return candidate

    def resolve(self, ask: Ask) -> Resolution:
        """The first route that matches, or the named model itself.

        Raises `NotFound` for a name nothing answers to, `BadRequest` for a virtual name whose routes all decline.
        """
        asked = _follow(ask.model, self._aliases) if ask.model in self._aliases else ask.model
        for resolution in self._by_route:
            if matches(resolution.route.match, ask, asked):
                return resolution
        named = self.find(asked)
        if named is not None:
            direct = self._direct.get(named)
            if direct is None:
                direct = self._direct[named] = Resolution(self._direct_route(named), "named by the request")
            return direct
        if asked in self.virtual:
            raise BadRequest(
                f"No route for `{ask.model}` takes this request: its tenant, its tier or its prompt of about "
                f"{ask.prompt_tokens} tokens is outside what they match.",
                param="model",
            )
        raise NotFound(f"The model `{ask.model}` does not exist or you do not have access to it.", param="model")

    def _direct_route(self, candidate: Candidate) -> Route:
        return Route(
            name="direct",
            match=Match(),
            candidates=(candidate,),
            minimize="latency",
            subject_to=SubjectTo(),
            fallback=(),
            retry=Retry(),
            hedge=None,
            timeout=Timeout(),
            cache=self._cache,
            mode="enforce",
        )


def parse(name: str, models: Mapping[str, Model]) -> Candidate | None:
    """`model[@version][:adapter]` when all of it exists, otherwise None."""
    rest, _, adapter = name.partition(":")
    base, _, version = rest.partition("@")
    model = models.get(base)
    if model is None or name.endswith((":", "@")) or rest.endswith("@"):
        return None
    if (version and version not in model.versions) or (adapter and adapter not in model.adapters):
        return None
    return Candidate(base, version or None, adapter or None)


def matches(match: Match, ask: Ask, asked: str) -> bool:
    """Whether a route's conditions hold; `asked` is the name with aliases followed."""
    return (
        (match.models is None or asked in match.models or ask.model in match.models)
        and (match.tenants is None or ask.tenant.name in match.tenants)
        and (match.tiers is None or ask.tenant.tier in match.tiers)
        and (match.max_prompt_tokens is None or ask.prompt_tokens <= match.max_prompt_tokens)
    )


def _follow(alias: str, aliases: Mapping[str, str]) -> str:
    """The end of a chain of aliases. The linter refuses cycles; the bound keeps a table built by hand harmless."""
    for _ in range(len(aliases) + 1):
        if alias not in aliases:
            break
        alias = aliases[alias]
    return alias
