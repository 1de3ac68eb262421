"""Which models, adapters and endpoints a key may use.

`tenants.NAME.models` says what the tenant may ask for; without it, that is everything. A key's own `models` is read in
the same way, and what a request asks for must pass both: a key narrows what its tenant may do and never widens it.
`models.NAME.adapters.NAME.tenants` is the adapter owner's fence: it keeps out whoever is not on it, whatever else is
listed.

    models                    asked for               leads to               allowed
    ------------------------  ----------------------  ---------------------  -------------------------------------
    (no list)                 anything                base model             yes
    (no list)                 anything                adapter                if the adapter's fence lets it in
    [chat-8b]                 chat-8b, chat-8b@int4   chat-8b                yes
    [chat-8b]                 gpt-4o-mini (an alias)  chat-8b                yes, the list names what it stands for
    [chat-8b]                 chat-8b:support         chat-8b:support        no, an adapter is listed by itself
    ["chat-8b:support"]       helpdesk (an alias)     chat-8b:support        if the adapter's fence lets it in
    ["chat-8b:support"]       chat-8b                 chat-8b                no
    ["chat-8b@int4"]          chat-8b@int4            chat-8b                yes
    ["chat-8b@int4"]          chat-8b, chat-8b@fp8    chat-8b                no, the list names one version
    [auto]                    auto (a route's name)   any candidate          yes, behind the adapter's fence
    [chat-8b]                 auto (a route's name)   chat-8b or big         chat-8b only: what the list names
    []                        anything                anything               no

A name that is listed and asked for word by word is allowed wherever the operator's routes take it, fallbacks included.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from gateway.errors import Forbidden
from gateway.table import Adapter, Candidate, Key, Model, Route


def may_use(key: Key, model: Model, adapter: Adapter | None, asked: str) -> bool:
    """Whether the holder of `key`, having asked for `asked`, may be answered by `model` with `adapter` (None: the base
    model)."""
    tenant = key.tenant
    if adapter is not None and adapter.tenants is not None and tenant.name not in adapter.tenants:
        return False
    return _lists(tenant.models, model, adapter, asked) and _lists(key.models, model, adapter, asked)


def forbidden(key: Key, models: Mapping[str, Model], route: Route, asked: str) -> list[Candidate]:
    """Of where the route may go, what the holder of `key`, having asked for `asked`, may not be answered from."""
    found: list[Candidate] = []
    _add_forbidden(found, key, models, route.candidates, asked)
    if route.fallback:
        _add_forbidden(found, key, models, route.fallback, asked)
    return found


def _add_forbidden(
    found: list[Candidate], key: Key, models: Mapping[str, Model], candidates: tuple[Candidate, ...], asked: str
) -> None:
    for candidate in candidates:
        model = models[candidate.model]
        adapter = model.adapters[candidate.adapter] if candidate.adapter else None
        if not may_use(key, model, adapter, asked):
            found.append(candidate)


def require_endpoint(key: Key, endpoint: str) -> None:
    """Raise Forbidden where the key's own list of endpoints leaves this one out."""
    if key.endpoints is not None and endpoint not in key.endpoints:
        raise Forbidden(
            f"This API key (`{key.id}` of tenant `{key.tenant.name}`) may not call `{endpoint}`, only "
            f"{', '.join(sorted(key.endpoints)) or 'nothing'}. The operator of this gateway can grant more.",
            code="endpoint_not_allowed",
        )


def _lists(listed: Set[str] | None, model: Model, adapter: Adapter | None, asked: str) -> bool:
    if listed is None or asked in listed:
        return True
    return (model.name if adapter is None else f"{model.name}:{adapter.name}") in listed
