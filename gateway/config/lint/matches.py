"""Checks of what a route matches: it names what exists, and somebody can meet it."""

from __future__ import annotations

from gateway.config.draft import Draft
from gateway.config.problems import did_you_mean
from gateway.config.references import References
from gateway.config.written.routes import Route


class Matches:
    """Looks at one route after the other; what they share is looked up once."""

    def __init__(self, draft: Draft, references: References) -> None:
        self._draft = draft
        self._references = references
        self._real = {_bare(name): name for name in (*draft.models, *draft.aliases)}
        self.tiers = {name: spec.tier for name, spec in draft.tenants.items() if spec and draft.whole("tenants", name)}

    def check(self, index: int, route: Route) -> None:
        self._models(index, route)
        self._tenants(index, route)
        if self._draft.tenants and len(self.tiers) == len(self._draft.tenants):  # or a faulty one may be of any tier
            self._tiers(index, route)

    def _models(self, index: int, route: Route) -> None:
        findings = self._draft.source.findings
        for i, name in enumerate(route.match.model or ()):
            place = self._draft.source.place("routes", index, "match", "model", i)
            if complaint := self._references.complaint(name, virtual=True):
                findings.error(place, complaint.wrong, complaint.remedy)
            elif name in self._references.virtual and (near := self._real.get(_bare(name))):
                findings.warn(
                    place,
                    f"`{name}` is no model, so it becomes a name of this route's own",
                    f"write `{near}` if that is meant; otherwise choose a name less like it",
                )

    def _tenants(self, index: int, route: Route) -> None:
        source, tenants = self._draft.source, self._draft.tenants
        for i, name in enumerate(route.match.tenant or ()):
            if name not in tenants:
                source.findings.error(
                    source.place("routes", index, "match", "tenant", i),
                    f"no tenant is called `{name}`",
                    did_you_mean(name, tenants, "write it under `tenants`"),
                )

    def _tiers(self, index: int, route: Route) -> None:
        source, match = self._draft.source, route.match
        existing = set(self.tiers.values())
        for i, tier in enumerate(match.tier or ()):
            if tier not in existing:
                source.findings.error(
                    source.place("routes", index, "match", "tier", i),
                    f"no tenant is of the tier `{tier}`, so nobody gets here",
                    f"{did_you_mean(tier, existing, '')} Or give a tenant `tier: {tier}`",
                )
        named = [self.tiers[name] for name in match.tenant or () if name in self.tiers]
        if match.tier and named and not set(named) & set(match.tier):
            source.findings.error(
                source.place("routes", index, "match"),
                f"no tenant that `{route.name}` names is of a tier it names, so nobody gets here",
                "delete `tenant` or `tier`, or change a tenant's tier",
            )


def _bare(name: str) -> str:
    """A name without what is easily mistyped: its case and its punctuation."""
    return "".join(character for character in name.lower() if character.isalnum())
