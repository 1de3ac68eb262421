"""Checks of gateway.yaml."""

from __future__ import annotations

from gateway.config.draft import Draft
from gateway.config.published import PUBLISHED_DIGESTS, is_loopback
from gateway.ledger.location import check_location
from gateway.ledger.retention import LEAST
from gateway.ledger.rollup import HOUR
from gateway.ledger.store import LedgerError


def lint_gateway(draft: Draft) -> None:
    _ledger(draft)
    _window(draft)
    _retention(draft)
    _published_keys(draft)


def _ledger(draft: Draft) -> None:
    try:
        check_location(draft.settings.ledger)
    except LedgerError as error:
        wrong, _, remedy = str(error).partition(": ")
        draft.source.findings.error(draft.source.place("ledger"), wrong, remedy)


def _window(draft: Draft) -> None:
    """The bill is kept by the hour: a window across its end would put a part of the next one's cost into it."""
    if HOUR * 1000 % max(1, round(draft.settings.metering.window * 1000)):
        draft.source.findings.error(
            draft.source.place("metering", "window"),
            "an hour is no whole number of such windows, and the bill is kept by the hour",
            "write for example `window: 60s`",
        )


def _retention(draft: Draft) -> None:
    """Rows that are younger may still be delivered a second time, or await their share of the bill."""
    if draft.settings.metering.retention < LEAST:
        draft.source.findings.error(
            draft.source.place("metering", "retention"),
            "rows of single attempts are kept for two days at least",
            "write `retention: 2d` or more; `400d` is usual",
        )


def _published_keys(draft: Draft) -> None:
    source, settings = draft.source, draft.settings
    host = settings.server.host
    published = [
        place
        for digest, place in (
            *((key.sha256, source.place("admin", "keys", i)) for i, key in enumerate(settings.admin.keys)),
            *(
                (key.sha256, source.place("tenants", name, "keys", i))
                for name, tenant in draft.tenants.items()
                if tenant is not None
                for i, key in enumerate(tenant.keys)
            ),
        )
        if digest in PUBLISHED_DIGESTS
    ]
    for place in published:
        source.findings.warn(
            place, "everyone knows the demonstration's key", "make your own with `tollgate keys create TENANT`"
        )
    if published and not is_loopback(host):
        source.findings.error(
            source.place("server", "host"),
            f"`{host}` can be reached from outside, and the published key of {published[0]} would open it",
            "replace that key (`tollgate keys create TENANT`), or listen on 127.0.0.1",
        )
