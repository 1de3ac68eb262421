"""Where the ledger is: the `ledger:` URL of gateway.yaml, and the journal that feeds it."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.ledger.store import LedgerError

NONE = "none"  # nothing is recorded
ELSEWHERE = Path("var")  # for what stands beside a ledger, where that is in no file
_SQLITE = "sqlite:///"
_EXAMPLE = "write `ledger: sqlite:///var/ledger.db` (relative) or `ledger: sqlite:////srv/ledger.db` (absolute)"
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[^@:/?#,\s\[\]]+)(?::[0-9]{1,5})?"
# Several hosts of one database are tried in turn; without any, `?host=` names one, or the directory of a socket.
_POSTGRESQL = re.compile(
    rf"postgres(?:ql)?://(?:[^@/\s]*@)?(?:{_HOST}(?:,{_HOST})*/[^/?#\s]+(?:\?\S*)?|/[^/?#\s]+\?(?:\S*&)?host=\S+)"
)
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
    if not _POSTGRESQL.fullmatch(url):
        raise LedgerError(f"the ledger URL names no PostgreSQL host and database: {_POSTGRESQL_EXAMPLE}")


def without_password(url: str) -> str:
    """For eyes."""
    return re.sub(r"(?<=[?&]password=)[^&#]*", "***", re.sub(r"(://[^:@/]*):[^/]*@", r"\1:***@", url))


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


def decisions_path(url: str, journal: str | None, written: str | None) -> Path | None:
    """The directory of what is remembered of requests: as written, or beside the journals. None where neither is."""
    if written is not None:
        return Path(written)
    return None if url == NONE else journal_path(url, journal).with_suffix(".decisions")


def directory_beside(ledger: str) -> Path:
    """Where the files stand that go with a ledger: beside its own, or in `var` where it has none."""
    try:
        return sqlite_path(ledger).parent
    except LedgerError:
        return ELSEWHERE
