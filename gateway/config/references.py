"""The names that models go by in the YAML: what one stands for, and what is wrong with one that stands for nothing."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from gateway.config.draft import Draft
from gateway.config.problems import did_you_mean
from gateway.config.written.models import Model, Version


class Reference(NamedTuple):
    """`model[@version][:adapter]`, taken apart."""

    model: str
    version: str
    adapter: str


class Complaint(NamedTuple):
    wrong: str
    remedy: str


def split(name: str) -> Reference:
    rest, _, adapter = name.partition(":")
    model, _, version = rest.partition("@")
    return Reference(model, version, adapter)


class References:
    """The names of one draft. An entry that is known but broken is neither complained about nor looked into."""

    def __init__(self, draft: Draft) -> None:
        self.models = draft.models
        self.aliases = draft.aliases
        matched = {
            index: route.match.model or [] if route and draft.whole("routes", index) else _raw_names(draft, index)
            for index, route in enumerate(draft.routes)
        }
        self.virtual = frozenset(
            name
            for names in matched.values()
            for name in names
            if name not in draft.aliases and split(name).model not in draft.models
        )
        # A faulty route that matches nothing one can read may be meant to match any name.
        self._vague = any(
            not names and not (draft.routes[index] and draft.whole("routes", index)) for index, names in matched.items()
        )

    def follow(self, name: str) -> str:
        """The end of a chain of aliases; the first name that comes again where the chain is a circle."""
        return self.chain(name)[-1]

    def chain(self, name: str) -> list[str]:
        """A name and what its aliases lead to. Ends with the first name that comes again, if one does."""
        names = [name]
        while (target := self.aliases.get(names[-1])) is not None:
            names.append(target)
            if target in names[:-1]:
                break
        return names

    def model(self, name: str) -> Model | None:
        """The model behind a name, None where there is none or it is broken."""
        return self.models.get(split(self.follow(name)).model)

    def versions(self, name: str) -> dict[str, Version]:
        """The versions a name may be answered by."""
        wanted, model = split(self.follow(name)).version, self.model(name)
        if model is None:
            return {}
        return {version: spec for version, spec in model.versions.items() if wanted in ("", version)}

    def complaint(self, name: str, *, virtual: bool) -> Complaint | None:
        """What keeps a name from standing for something that is served; `virtual` names may pass as well."""
        target = self.follow(name)
        if target in self.aliases or (virtual and target in self.virtual):
            return None  # an alias that leads nowhere has its own message
        model, version, adapter = split(target)
        if model not in self.models:
            known = [*self.models, *self.aliases, *(self.virtual if virtual else ())]
            if target in self.virtual:
                return Complaint(f"`{name}` is what a route matches, not a model", "write that route's candidates here")
            if virtual and self._vague:
                return None
            return Complaint(f"no model is called `{target}`", did_you_mean(target, known, "write it under `models`"))
        written = self.models[model]
        if written is None or target == model:
            return None
        if version and version not in written.versions:
            remedy = did_you_mean(version, written.versions, "")
            return Complaint(f"the model `{model}` has no version `{version}`", remedy)
        if adapter and adapter not in written.adapters:
            remedy = did_you_mean(adapter, written.adapters, f"write it under `models.{model}.adapters`")
            return Complaint(f"the model `{model}` has no adapter `{adapter}`", remedy)
        if target.endswith(("@", ":")) or "@:" in target:
            return Complaint(f"`{target}` ends where a name is due", f"write `{model}`, or the name after it")
        return None


def _raw_names(draft: Draft, index: int) -> list[str]:
    """What a broken route matches, as far as it can be told, so that nobody is blamed for naming it."""
    names: Any = draft.source.data["routes"][index]
    for key in ("match", "model"):
        names = cast(dict[str, Any], names).get(key) if isinstance(names, dict) else None
    found: list[Any] = cast(list[Any], names) if isinstance(names, list) else [names]
    return [name for name in found if isinstance(name, str)]
