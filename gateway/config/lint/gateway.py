"""Checks of gateway.yaml."""

from __future__ import annotations

import os
from pathlib import Path

from gateway.config.draft import Draft
from gateway.config.published import PUBLISHED_DIGESTS, is_loopback
from gateway.ledger.location import decisions_path, is_sqlite, sqlite_path
from gateway.ledger.opening import check_url
from gateway.ledger.retention import LEAST
from gateway.ledger.rollup import HOUR
from gateway.ledger.store import LedgerError

LEAST_BETWEEN_READINGS = 0.1  # seconds: an answer may take longer, and each reading is a row of the ledger
EXAMPLE_OF_FILE = "write for example `ledger: sqlite:///var/ledger.db`"


def lint_gateway(draft: Draft) -> None:
    _ledger(draft)
    _journal(draft)
    _decisions(draft)
    _readings(draft)
    _window(draft)
    _retention(draft)
    _published_keys(draft)


def _ledger(draft: Draft) -> None:
    findings, place, url = draft.source.findings, draft.source.place("ledger"), draft.settings.ledger
    try:
        check_url(url)
    except LedgerError as error:
        wrong, _, remedy = str(error).partition(": ")
        findings.error(place, wrong, remedy)
        return
    if is_sqlite(url):
        path = sqlite_path(url)
        if _is_there(path) and not path.is_file():
            what = "a directory" if path.is_dir() else "no file of a disk"
            findings.error(place, f"`{path}` is {what}, and the ledger is a file", EXAMPLE_OF_FILE)
        elif (wrong := _first_there(path.parent)) is not None and not wrong.is_dir():
            findings.error(place, f"`{wrong}` is no directory", EXAMPLE_OF_FILE)


def _journal(draft: Draft) -> None:
    written = draft.settings.metering.journal
    if written is not None and (wrong := _first_there(Path(written))) is not None and not wrong.is_dir():
        draft.source.findings.error(
            draft.source.place("metering", "journal"),
            f"`{wrong}` is no directory",
            "write the path of one, which need not be there yet, for example `journal: var/ledger.journal`",
        )


def _decisions(draft: Draft) -> None:
    settings, source = draft.settings, draft.source
    try:
        path = decisions_path(settings.ledger, settings.metering.journal, settings.decisions.directory)
    except LedgerError:  # said of the ledger
        return
    if path is None or not settings.decisions.keep_mb or (found := _first_there(path)) is None:
        return
    is_written = settings.decisions.directory is not None
    if not is_written and found != path:  # what is wrong above it is said of the ledger or the journal
        return
    place = source.place("decisions", "directory") if is_written else source.place("ledger")
    if not found.is_dir():
        source.findings.error(
            place,
            f"decisions would be kept in `{path}`, and `{found}` is no directory",
            "write the path of one, which need not be there yet, for example "
            "`decisions: {directory: var/ledger.decisions}`, or `keep_mb: 0` to keep none",
        )
    elif not os.access(found, os.W_OK | os.X_OK):  # another user may run it
        source.findings.warn(
            place,
            f"decisions are to be kept in `{path}`, and this user may not write in `{found}`",
            "let the gateway's user write there, or name another place",
        )


def _first_there(path: Path) -> Path | None:
    """The path itself, or the nearest above it that exists."""
    return next((one for one in (path, *path.parents) if _is_there(one)), None)


def _is_there(path: Path) -> bool:
    """What this user may not look at is for the start to say: another may run it."""
    try:
        return path.exists()
    except OSError:
        return False


def _readings(draft: Draft) -> None:
    if draft.settings.metering.readings < LEAST_BETWEEN_READINGS:
        draft.source.findings.error(
            draft.source.place("metering", "readings"),
            "workers' counters are read 10 times a second at most, for each reading is a row of the ledger",
            "write `readings: 100ms` or more; `5s` is usual",
        )


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
