"""Checks of tenants.yaml, and of the admin keys, which are keys too."""

from __future__ import annotations

from gateway.config.draft import Draft
from gateway.config.problems import Place, did_you_mean
from gateway.config.references import References, split
from gateway.config.units import nanousd
from gateway.config.written.tenants import Tenant


def lint_tenants(draft: Draft, references: References) -> None:
    source = draft.source
    if not draft.tenants and "tenants" not in source.data:
        source.findings.warn(
            source.mentioned.get("tenants", source.place()),
            "there is no tenant, so nobody can call",
            "write `tenants: {NAME: {}}` and make a key with `tollgate keys create NAME`",
        )
    digests: dict[str, Place] = {}
    for name, tenant in draft.tenants.items():
        if tenant is not None:
            _keys(draft, ("tenants", name), [(key.id, key.sha256) for key in tenant.keys], digests)
            _models(draft, references, name, tenant)
            _budget(draft, name, tenant)
            _model_limits(draft, name, tenant)
            _key_models(draft, references, name, tenant)
            if not tenant.keys and draft.whole("tenants", name):
                source.findings.warn(
                    source.place("tenants", name),
                    f"`{name}` has no key here, so it can call only with one of the store",
                    f"make one with `tollgate keys create {name}`, or leave it so",
                )
    _reservations(draft)
    _keys(draft, ("admin",), [(key.id, key.sha256) for key in draft.settings.admin.keys], digests)


def _reservations(draft: Draft) -> None:
    """Idle time can be given out once."""
    reserved = {name: tenant.reservation for name, tenant in draft.tenants.items() if tenant and tenant.reservation}
    total = sum(reserved.values())
    if total > 1 + 1e-9:
        name = max(reserved, key=lambda name: reserved[name])
        draft.source.findings.error(
            draft.source.place("tenants", name, "reservation"),
            f"the reservations of all tenants are {100 * total:.6g}% of the idle time",
            f"reserve at most 100% in all: lower that of {' or '.join(sorted(reserved))}",
        )


def _keys(draft: Draft, owner: tuple[str, ...], keys: list[tuple[str, str]], digests: dict[str, Place]) -> None:
    source = draft.source
    ids: set[str] = set()
    for i, (key_id, digest) in enumerate(keys):
        place = source.place(*owner, "keys", i)
        if key_id in ids:
            source.findings.error(place, f"two keys of one owner are called `{key_id}`", "rename one of them")
        if digest in digests:
            source.findings.error(
                place,
                f"the same key is already at {digests[digest]}",
                "a key belongs to one tenant: make another with `tollgate keys create`",
            )
        ids.add(key_id)
        digests.setdefault(digest, place)


def _models(draft: Draft, references: References, name: str, tenant: Tenant) -> None:
    source = draft.source
    for i, asked in enumerate(tenant.models or ()):
        place = source.place("tenants", name, "models", i)
        if _complains(draft, references, place, asked):
            continue
        model, adapter = references.model(asked), split(references.follow(asked)).adapter
        if model is None or not adapter:
            continue
        fence = model.adapters[adapter].tenants
        if fence is not None and name not in fence:
            source.findings.error(
                place,
                f"the adapter behind `{asked}` is only for {', '.join(fence)}",
                f"add {name} to the adapter's `tenants`, or delete `{asked}` here",
            )


def _model_limits(draft: Draft, name: str, tenant: Tenant) -> None:
    for model in tenant.limits.models:
        if model not in draft.models:
            draft.source.findings.error(
                draft.source.place("tenants", name, "limits", "models", model),
                f"there is no model `{model}`",
                did_you_mean(model, draft.models, "write it under `models`"),
            )


def _key_models(draft: Draft, references: References, name: str, tenant: Tenant) -> None:
    for index, key in enumerate(tenant.keys):
        for i, asked in enumerate(key.models or ()):
            _complains(draft, references, draft.source.place("tenants", name, "keys", index, "models", i), asked)


def _complains(draft: Draft, references: References, place: Place, asked: str) -> bool:
    """An adapter that is not here may be added while the gateway runs, where it allows that."""
    complaint = references.complaint(asked, virtual=True)
    if complaint is None:
        return False
    name, version, adapter = split(references.follow(asked))
    model = references.models.get(name)
    if draft.settings.adapters.directories and model is not None and adapter and version in ("", *model.versions):
        draft.source.findings.warn(
            place, complaint.wrong, f"add it with POST /admin/v1/adapters, or delete `{asked}` here"
        )
    else:
        draft.source.findings.error(place, complaint.wrong, complaint.remedy)
    return True


def _budget(draft: Draft, name: str, tenant: Tenant) -> None:
    if tenant.budget is not None and nanousd(tenant.budget.usd) == 0:
        draft.source.findings.error(
            draft.source.place("tenants", name, "budget", "usd"),
            "the budget is less than a billionth of a dollar",
            "write a larger one, or `models: []` to allow nothing",
        )
