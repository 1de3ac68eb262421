"""Where the ledger is: the `ledger:` URL of gateway.yaml, and the journal that feeds it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from gateway.ledger.store import LedgerError

NONE = "none"  # nothing is recorded
_SQLITE = "sqlite:///"
_EXAMPLE = "write `ledger: sqlite:///var/ledger.db` (relative) or `ledger: sqlite:////srv/ledger.db` (absolute)"
_POSTGRESQL_EXAMPLE = "write `ledger: postgresql://USER:PASSWORD@HOST:5432/DATABASE`"


def is_sqlite(url: str) -> bool:
    return url.startswith("sqlite:")


def is_postgresql(url: str) -> bool:
    return url.startswith(("postgresql:", "postgres:"))


def check_location(url: str) -> None:
    """Raises LedgerError that says what is wrong with the URL of a ledger, and says nothing of the password in it."""
    if url == NONE:
        return
    if not is_postgresql(url):
        sqlite_path(url)
        return
    try:
        parts = urlsplit(url)
        whole = bool(parts.hostname or "host=" in parts.query) and bool(parts.path.strip("/")) and parts.port != 0
    except ValueError:
        whole = False
    if not whole:
        raise LedgerError(f"the ledger URL names no PostgreSQL host and database: {_POSTGRESQL_EXAMPLE}")


def sqlite_path(url: str) -> Path:
    """The file behind `sqlite:///relative/path` or `sqlite:////absolute/path`; relative to the working directory."""
    path = url.removeprefix(_SQLITE)
    if not url.startswith(_SQLITE) or not path.strip("/") or path.endswith("/"):
        raise LedgerError(f"the ledger URL of scheme `{url.partition(':')[0]}` names no SQLite file: {_EXAMPLE}")
    if path == ":memory:" or "?" in path:
        raise LedgerError(f"the ledger must be a plain file, without options: {_EXAMPLE}")
    return Path(path)


def journal_path(url: str, written: str | None) -> Path:
    """The directory of the journals: as written, or beside an SQLite ledger, or var/ledger.journal."""
    if written is not None:
        return Path(written)
    if is_sqlite(url):
        return sqlite_path(url).with_suffix(".journal")
    return Path("var/ledger.journal")
