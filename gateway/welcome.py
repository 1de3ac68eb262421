"""What `tollgate up` says when all is ready: lines to paste, models to try, and where everything is. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from gateway.config.published import PUBLISHED_KEYS
from gateway.ledger.location import without_password
from gateway.routing.names import Names
from gateway.table import Key, Table
from gateway.tenancy.access import may_use

ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def reachable(host: str) -> str:
    """Where a client on this machine connects to what listens on `host`."""
    return ANY_ADDRESS.get(host, host)


def base_url(host: str, port: int) -> str:
    host = reachable(host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def published_key(table: Table) -> tuple[str, Key] | None:
    """A demonstration key that this configuration lets in, if there is one."""
    for text in PUBLISHED_KEYS:
        key = table.keys.get(sha256(text.encode()).digest())
        if key is not None:
            return text, key
    return None


def models_to_try(table: Table, key: Key | None) -> list[str]:
    """What a request may carry as `model`: routes' names, models, adapters, aliases; only what `key` may use."""
    names = Names(table)
    plain = [
        name
        for model in table.models.values()
        for name in (model.name, *(f"{model.name}:{adapter}" for adapter in model.adapters))
    ]
    offered = [*sorted(names.virtual), *plain, *table.aliases]
    return [name for name in offered if key is None or _is_open(table, names, key, name)]


def welcome(table: Table, url: str, logs: Path, troubles: Sequence[str]) -> list[str]:
    """The block of lines. `troubles` are workers that did not come up, in words."""
    found = published_key(table)
    if found is not None:
        text, key = found
        whose = f"{key.tenant.name}, by a demo key that everyone can read"
    else:
        key = None
        whose = next(iter(table.tenants), "NAME")
        text = f"$(tollgate keys create {whose} --write --config {table.directory})"
    return [
        "",
        *(f"not running: {trouble}" for trouble in troubles),
        "Tollgate serves what is running. Point a client at it:" if troubles else "Tollgate is ready.",
        "",
        f"  export OPENAI_BASE_URL={url}/v1",
        f"  export OPENAI_API_KEY={text}",
        "",
        f"  tenant   {whose}",
        f"  models   {', '.join(models_to_try(table, key))}",
        f"  config   {table.directory}/   (changes take effect within 2 s)",
        f"  logs     {logs}/NAME.log for workers; the gateway's is standard output",
        f"  ledger   {without_password(table.settings.ledger)}   (tollgate report)",
        f"  API      {url}/docs",
        "",
    ]


def _is_open(table: Table, names: Names, key: Key, name: str) -> bool:
    candidate = names.find(name)
    if candidate is None:  # a name that only routes know
        return all(listed is None or name in listed for listed in (key.tenant.models, key.models))
    model = table.models[candidate.model]
    adapter = model.adapters[candidate.adapter] if candidate.adapter else None
    return may_use(key, model, adapter, name)
