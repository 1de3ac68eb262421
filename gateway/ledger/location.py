"""Where the ledger is: the `ledger:` URL of gateway.yaml."""

from __future__ import annotations

from pathlib import Path

from gateway.ledger.store import LedgerError

_SQLITE = "sqlite:///"
_EXAMPLE = "write `ledger: sqlite:///var/ledger.db` (relative) or `ledger: sqlite:////srv/ledger.db` (absolute)"


def sqlite_path(url: str) -> Path:
    """The file behind `sqlite:///relative/path` or `sqlite:////absolute/path`; relative to the working directory."""
    scheme = url.partition(":")[0]
    if scheme in ("postgresql", "postgres"):
        raise LedgerError(
            "the ledger cannot be kept in PostgreSQL yet: use `ledger: sqlite:///var/ledger.db` in gateway.yaml, "
            "which all gateway processes of one machine may share"
        )
    path = url.removeprefix(_SQLITE)
    if not url.startswith(_SQLITE) or not path.strip("/") or path.endswith("/"):
        raise LedgerError(f"the ledger URL of scheme `{scheme}` names no SQLite file: {_EXAMPLE}")
    if path == ":memory:" or "?" in path:
        raise LedgerError(f"the ledger must be a plain file, without options: {_EXAMPLE}")
    return Path(path)
