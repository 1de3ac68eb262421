"""The ledgers that processes die over."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from gateway.ledger.store import Sink
from loadtests.crash import acts
from loadtests.crash.rounds import Ground
from loadtests.crash.servers import postgres_server

_WRITERS = ("gateway", "settler", "gateway and settler")
_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'ledger_schema'"


class Sqlite:
    """A file of its own for each round, which does not exist yet."""

    name = "sqlite"
    acts = _WRITERS

    def fresh(self, directory: Path) -> str:
        return f"sqlite:///{directory / 'ledger.db'}"

    def open_sink(self, ledger: str) -> Sink:
        return acts.open_store_sink(ledger)

    def recover(self, root: Path, ledger: str) -> None:
        acts.recover(root, self.open_sink(ledger))


@contextmanager
def scratch_directory() -> Generator[Path]:
    """In memory where that is to be had: what a killed process wrote is the kernel's, on a disk or not."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="tollgate-crash-", dir=shared if shared.is_dir() else None) as scratch:
        yield Path(scratch)


class Postgres:
    """One database, emptied for each round."""

    name = "postgresql"
    acts = ("gateway and settler",)

    def __init__(self, server: str) -> None:
        self._server = server
        self._ledger = f"{server.rpartition('/')[0]}/crash"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute("CREATE DATABASE crash")

    def fresh(self, directory: Path) -> str:
        acts.open_store_sink(self._ledger).close()
        with psycopg.connect(self._ledger, autocommit=True) as connection:
            tables = ", ".join(str(name) for (name,) in connection.execute(_TABLES))
            connection.execute(f"TRUNCATE {tables} RESTART IDENTITY".encode())
        return self._ledger

    def open_sink(self, ledger: str) -> Sink:
        return acts.open_store_sink(ledger)

    def recover(self, root: Path, ledger: str) -> None:
        acts.recover(root, self.open_sink(ledger))


class NewPostgres(Postgres):
    """A database of its own for each round, without a schema yet."""

    name = "new postgresql"
    acts = ("settler",)

    def fresh(self, directory: Path) -> str:
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute("DROP DATABASE crash WITH (FORCE)")
            connection.execute("CREATE DATABASE crash")
        return self._ledger


GROUNDS = (Sqlite.name, NewPostgres.name, Postgres.name)


@contextmanager
def opened(name: str, scratch: Path) -> Generator[Ground]:
    if name == Sqlite.name:
        yield Sqlite()
        return
    with postgres_server(scratch) as server:
        yield NewPostgres(server) if name == NewPostgres.name else Postgres(server)
