"""Which models and adapters a tenant may use.

Two lists are read. `tenants.NAME.models` says what the tenant may ask for; without it, that is everything.
`models.NAME.adapters.NAME.tenants` is the adapter owner's fence: it keeps out whoever is not on it, whatever else is
listed.

    tenant.models             asked for               leads to               allowed
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

from gateway.errors import Forbidden
from gateway.table import Adapter, Model, Tenant


def may_use(tenant: Tenant, model: Model, adapter: Adapter | None, asked: str) -> bool:
    """Whether `tenant`, having asked for `asked`, may be answered by `model` with `adapter` (None: the base model)."""
    if adapter is not None and adapter.tenants is not None and tenant.name not in adapter.tenants:
        return False
    listed = tenant.models
    if listed is None or asked in listed:
        return True
    return (model.name if adapter is None else f"{model.name}:{adapter.name}") in listed


def require_access(tenant: Tenant, model: Model, adapter: Adapter | None, asked: str) -> None:
    """Raise Forbidden where `may_use` says no."""
    if not may_use(tenant, model, adapter, asked):
        raise Forbidden(
            f"Tenant `{tenant.name}` does not have access to the model `{asked}`. "
            "`GET /v1/models` lists what it may use; the operator of this gateway can grant more.",
            param="model",
        )
