"""The API keys as they are written: what a command that changes keys has to know of the YAML."""

from __future__ import annotations

from typing import Any

from gateway.config.draft import Draft
from gateway.config.problems import Place


def key_ids(draft: Draft, tenant: str) -> list[str]:
    """From what is written, so that a mistake elsewhere in the tenant hides none."""
    written: Any = draft.source.data.get("tenants")
    try:
        keys: Any = written[tenant]["keys"]
        return [str(key["id"]) for key in keys]
    except (KeyError, TypeError):
        return []


def key_place(draft: Draft, tenant: str, key_id: str) -> Place | None:
    """Where a key is written, None where it is not."""
    ids = key_ids(draft, tenant)
    return draft.source.place("tenants", tenant, "keys", ids.index(key_id)) if key_id in ids else None


def entry(
    key_id: str,
    digest: str,
    *,
    models: list[str] | None = None,
    endpoints: list[str] | None = None,
    expires: str | None = None,
    limits: dict[str, int] | None = None,
    priority: str | None = None,
) -> dict[str, object]:
    """A key as `tenants.NAME.keys` holds it; what is None or empty is left out."""
    optional: dict[str, object] = {
        "models": models,
        "endpoints": endpoints,
        "expires": expires,
        "limits": limits or None,
        "priority": priority,
    }
    return {"id": key_id, "sha256": digest} | {key: value for key, value in optional.items() if value is not None}
