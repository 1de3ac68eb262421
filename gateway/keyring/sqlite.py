"""The store of keys of one machine: an SQLite file that all its gateway processes and commands share.

The file is made by the first write and not before. Each operation opens it anew (0.1 ms), in a thread: a file that is
moved away, deleted or restored is simply what it is.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from gateway.keyring.record import KeyName, Record, encode
from gateway.keyring.store import Decoder, Snapshot, StoreAway

T = TypeVar("T")

BUSY_SECONDS = 1.0  # for another writer
SCHEMA = 1
_APPLICATION = 0x746B_6579  # "tkey", in the file's head: no other program's database is written to
_TABLES = (
    "CREATE TABLE keys (tenant TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, record BLOB NOT NULL, "
    "PRIMARY KEY (tenant, id)) STRICT",
    "CREATE TABLE uses (tenant TEXT NOT NULL, id TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (tenant, id)) STRICT",
    "CREATE TABLE revision (value TEXT NOT NULL) STRICT",
    "INSERT INTO revision VALUES ('')",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {SCHEMA}",
)


class SqliteKeyStore:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._decoder = Decoder()
        self.place = str(path.absolute())

    async def revision(self) -> str:
        return await asyncio.to_thread(self._read, _revision, "")

    async def load(self) -> Snapshot:
        return await asyncio.to_thread(self._read, self._load, Snapshot("", {}))

    async def swap(self, name: KeyName, version: int, after: Record | None) -> bool:
        return await asyncio.to_thread(self._write, lambda connection: _swap(connection, name, version, after))

    async def note_uses(self, uses: Mapping[KeyName, float]) -> None:
        rows = [(*name, at) for name, at in uses.items()]
        await asyncio.to_thread(self._write, lambda connection: _note_uses(connection, rows))

    async def uses(self) -> dict[KeyName, float]:
        nothing: dict[KeyName, float] = {}
        return await asyncio.to_thread(self._read, _uses, nothing)

    async def close(self) -> None:
        """Nothing is open between two operations."""

    def _load(self, connection: sqlite3.Connection) -> Snapshot:
        found = connection.execute("SELECT record FROM keys").fetchall()
        return Snapshot(_revision(connection), self._decoder.read(row[0] for row in found))

    def _read(self, ask: Callable[[sqlite3.Connection], T], nothing: T) -> T:
        try:
            if not self._path.exists():
                return nothing
            with closing(self._connect("ro")) as connection:
                connection.execute("BEGIN")
                return ask(connection) if self._is_ours(connection) else nothing
        except (sqlite3.Error, OSError) as error:
            raise self._away(error) from error

    def _write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            with closing(self._connect("rw")) as connection:
                connection.execute("BEGIN IMMEDIATE")
                if not self._is_ours(connection):
                    for statement in _TABLES:
                        connection.execute(statement)
                done = change(connection)
                connection.execute("COMMIT")
                return done
        except (sqlite3.Error, OSError) as error:
            raise self._away(error) from error

    def _connect(self, mode: str) -> sqlite3.Connection:
        # isolation_level None: transactions are written out here.
        return sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode={mode}", uri=True, timeout=BUSY_SECONDS, isolation_level=None
        )

    def _is_ours(self, connection: sqlite3.Connection) -> bool:
        """False for a file that holds nothing yet."""
        application = int(connection.execute("PRAGMA application_id").fetchone()[0])
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if (application, version) == (_APPLICATION, SCHEMA):
            return True
        if application == _APPLICATION:
            raise StoreAway(
                f"the store of keys {self._path} was written by another version of Tollgate (its schema is {version}, "
                f"this one knows {SCHEMA}): upgrade what is older, or move the file away"
            )
        if connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
            raise StoreAway(f"{self._path} is the database of another program: move it away, keys are kept there")
        return False

    def _away(self, error: sqlite3.Error | OSError) -> StoreAway:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code; the rest is detail
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            remedy = "move it away; gateways that run know its keys and put them into a new one"
        elif code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            remedy = "another program holds it locked: end that program's transaction"
        else:
            remedy = "make the file and its directory writable for this user, and see that its disk has room"
        return StoreAway(f"the store of keys {self._path} cannot be used ({error}): {remedy}")


def _revision(connection: sqlite3.Connection) -> str:
    return str(connection.execute("SELECT value FROM revision").fetchone()[0])


def _swap(connection: sqlite3.Connection, name: KeyName, version: int, after: Record | None) -> bool:
    found = connection.execute("SELECT version FROM keys WHERE tenant = ? AND id = ?", name).fetchone()
    if (0 if found is None else int(found[0])) != version:
        return False
    if after is None:
        connection.execute("DELETE FROM keys WHERE tenant = ? AND id = ?", name)
        connection.execute("DELETE FROM uses WHERE tenant = ? AND id = ?", name)
    else:
        connection.execute("INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?)", (*name, after.version, encode(after)))
    connection.execute("UPDATE revision SET value = ?", (secrets.token_hex(8),))
    return True


def _note_uses(connection: sqlite3.Connection, rows: list[tuple[str, str, float]]) -> None:
    connection.executemany(
        "INSERT INTO uses VALUES (?, ?, ?) ON CONFLICT (tenant, id) DO UPDATE SET at = MAX(at, excluded.at)", rows
    )


def _uses(connection: sqlite3.Connection) -> dict[KeyName, float]:
    return {(tenant, key_id): at for tenant, key_id, at in connection.execute("SELECT tenant, id, at FROM uses")}
