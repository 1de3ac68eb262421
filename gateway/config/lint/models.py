"""Checks of models.yaml."""

from __future__ import annotations

from gateway.config.draft import Draft
from gateway.config.problems import did_you_mean
from gateway.config.references import References, split
from gateway.config.written.fleet import Worker
from gateway.config.written.models import Model


def lint_models(draft: Draft, references: References) -> None:
    serving = _serving(draft)
    for name, model in draft.models.items():
        if model is not None:
            _traffic(draft, name, model)
            _adapters(draft, name, model)
            if serving is not None:
                _served(draft, name, model, serving.get(name, []))
    _aliases(draft, references)
    _prices(draft, references)


def _traffic(draft: Draft, name: str, model: Model) -> None:
    source = draft.source
    for version in model.traffic:
        if version not in model.versions:
            source.findings.error(
                source.place("models", name, "traffic", version),
                f"`{name}` has no version `{version}`",
                did_you_mean(version, model.versions, ""),
            )
    total = sum(model.traffic.values())
    if model.traffic and total != 100:
        source.findings.error(
            source.place("models", name, "traffic"),
            f"the traffic of `{name}` sums to {total}",
            "make it 100, or delete `traffic` to let every version serve",
        )


def _adapters(draft: Draft, name: str, model: Model) -> None:
    source = draft.source
    for adapter, spec in model.adapters.items():
        for i, tenant in enumerate(spec.tenants or ()):
            if tenant not in draft.tenants:
                source.findings.error(
                    source.place("models", name, "adapters", adapter, "tenants", i),
                    f"no tenant is called `{tenant}`",
                    did_you_mean(tenant, draft.tenants, "write it under `tenants`"),
                )


def _serving(draft: Draft) -> dict[str, list[Worker]] | None:
    """The workers of each model; None when a worker is faulty, for it may be the one that is missing."""
    found: dict[str, list[Worker]] = {}
    for index, worker in enumerate(draft.workers):
        if worker is None or not draft.whole("workers", index):
            return None
        found.setdefault(split(worker.serves).model, []).append(worker)
    return found


def _served(draft: Draft, name: str, model: Model, workers: list[Worker]) -> None:
    """Versions and adapters that no worker holds. Warnings, for a fleet and its models are not edited in one stroke."""
    source = draft.source
    for version in model.versions:
        if not any(split(worker.serves).version == version for worker in workers):
            share = model.traffic.get(version, 0)
            takes = f" though it takes {share} % of the traffic" if share else ""
            source.findings.warn(
                source.place("models", name, "versions", version),
                f"no worker serves `{name}@{version}`{takes}",
                f"write a worker with `serves: {name}@{version}`, or delete the version",
            )
    if model.adapters and workers and not any(worker.max_loras for worker in workers):
        source.findings.warn(
            source.place("models", name, "adapters"),
            f"no worker of `{name}` has room for an adapter",
            "write `max_loras: 8` at one of them",
        )


def _aliases(draft: Draft, references: References) -> None:
    source = draft.source
    for alias, target in draft.aliases.items():
        place = source.place("aliases", alias)
        model, version, adapter = split(alias)
        known = draft.models.get(model)
        if alias in draft.models or (
            known and (version or adapter) and (version in known.versions or adapter in known.adapters)
        ):
            source.findings.error(
                place, f"the alias `{alias}` hides what already has this name", "rename the alias, or delete it"
            )
        if target is None:
            continue
        chain = references.chain(alias)
        if chain[-1] in chain[:-1]:
            if chain[-1] == alias:  # told once, at each alias of the circle
                source.findings.error(
                    place, f"the alias goes in a circle: {' → '.join(chain)}", "let one of them name a model"
                )
        elif len(chain) == 2 and (complaint := references.complaint(target, virtual=True)):
            source.findings.error(place, complaint.wrong, complaint.remedy)


def _prices(draft: Draft, references: References) -> None:
    """The ledger knows models by their own names only."""
    source = draft.source
    for name in draft.settings.prices:
        place = source.place("prices", name)
        if complaint := references.complaint(name, virtual=False):
            source.findings.error(place, complaint.wrong, complaint.remedy)
        elif name in draft.aliases:
            source.findings.error(
                place,
                f"`{name}` is an alias, and its requests are billed as what it leads to",
                f"write `{references.follow(name)}` instead",
            )
