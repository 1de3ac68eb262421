"""Keys of the contract that are read and checked, but whose effect comes with a later version. Said, not hidden."""

from __future__ import annotations

from typing import Any, NamedTuple

from gateway.config.draft import Draft
from gateway.config.source import KeyPath


class Pending(NamedTuple):
    section: str  # "routes" and "tenants" are looked at entry by entry; "" is gateway.yaml
    keys: tuple[str, ...]
    works: object  # the one value that has its effect
    instead: str  # what happens now
    remedy: str


PENDING = (
    Pending(
        "routes",
        ("mode",),
        "enforce",
        "the route decides as with `enforce`",
        "write `mode: enforce`, or take the route out until it is to decide",
    ),
    Pending(
        "",
        ("log", "format"),
        "json",
        "each line is JSON all the same",
        "write `format: json`",
    ),
)


def lint_pending(draft: Draft) -> None:
    for pending in PENDING:
        if not pending.section:
            _say(draft, pending, (), draft.settings)
            continue
        entries = enumerate(draft.routes) if pending.section == "routes" else draft.tenants.items()
        for name, entry in entries:
            if entry is not None and draft.whole(pending.section, name):
                _say(draft, pending, (pending.section, name), entry)


def _say(draft: Draft, pending: Pending, path: KeyPath, written: Any) -> None:
    value = written
    for key in pending.keys:
        value = getattr(value, key)
    if value != pending.works:
        where = draft.source.place(*path, *pending.keys)
        name = ".".join(pending.keys)
        draft.source.findings.warn(where, f"`{name}` has no effect yet as written: {pending.instead}", pending.remedy)
