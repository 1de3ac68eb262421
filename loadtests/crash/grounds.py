"""The ledgers that processes die over, and the ways there."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
from redis import Redis

from gateway.ledger.opening import open_store
from gateway.ledger.store import Sink
from gateway.settler.consumer import Consumer
from gateway.settler.stream import StreamSink
from gateway.state.stream import BatchStream
from loadtests.crash.acts import Carrier, Nobody, open_store_sink, recover
from loadtests.crash.rounds import Ground
from loadtests.crash.servers import postgres_server, redis_server

_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'ledger_schema'"


class Sqlite:
    """A file of its own for each round, which does not exist yet."""

    name = "sqlite"
    acts: Sequence[str] = ("gateway", "settler", "gateway and settler")

    def fresh(self, directory: Path) -> str:
        return f"sqlite:///{directory / 'ledger.db'}"

    def open_sink(self, ledger: str) -> Sink:
        return open_store_sink(ledger)

    def open_carrier(self, ledger: str) -> Carrier:
        return Nobody(ledger)

    def forget(self) -> None:
        pass

    def recover(self, root: Path, ledger: str) -> None:
        recover(root, self.open_sink(ledger), self.open_carrier(ledger))


class Postgres(Sqlite):
    """One database, emptied for each round."""

    name = "postgresql"
    acts = ("gateway and settler",)

    def __init__(self, server: str) -> None:
        self._server = server
        self._database = "".join(filter(str.isalpha, self.name))
        self._ledger = f"{server.rpartition('/')[0]}/{self._database}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {self._database}".encode())

    def fresh(self, directory: Path) -> str:
        open_store(self._ledger).close()
        with psycopg.connect(self._ledger, autocommit=True) as connection:
            tables = ", ".join(str(name) for (name,) in connection.execute(_TABLES))
            connection.execute(f"TRUNCATE {tables} RESTART IDENTITY".encode())
        return self._ledger


class NewPostgres(Postgres):
    """A database of its own for each round, without a schema yet."""

    name = "new postgresql"
    acts = ("settler",)

    def fresh(self, directory: Path) -> str:
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {self._database} WITH (FORCE)".encode())
            connection.execute(f"CREATE DATABASE {self._database}".encode())
        return self._ledger


class Stream(Postgres):
    """By way of Redis."""

    name = "redis to postgresql"
    acts = ("settler to stream", "consumer", "gateway, settler and consumer")

    def __init__(self, server: str, redis: str) -> None:
        super().__init__(server)
        self._redis = redis

    def fresh(self, directory: Path) -> str:
        self._empty()
        return super().fresh(directory)

    def open_sink(self, ledger: str) -> Sink:
        return StreamSink(BatchStream(self._redis), monotonic=Hurried())

    def open_carrier(self, ledger: str) -> Carrier:
        return _Carrier(self._redis, ledger)

    def _empty(self) -> None:
        with Redis.from_url(self._redis) as client:  # pyright: ignore[reportUnknownMemberType]
            client.flushall()  # pyright: ignore[reportUnknownMemberType]


class ForgetfulStream(Stream):
    """Redis is emptied when somebody dies."""

    name = "forgetful redis to postgresql"

    def forget(self) -> None:
        self._empty()


class _Carrier:
    """A consumer that waits for nothing."""

    def __init__(self, redis: str, ledger: str) -> None:
        self._stream = BatchStream(redis)
        self._consumer = Consumer(
            BatchStream(redis), lambda: open_store(ledger), claim_seconds=0.0, monotonic=Hurried()
        )

    def step(self) -> None:
        if self._stream.figures().entries:
            self._consumer.step()

    def close(self) -> None:
        self._consumer.close()
        self._stream.close()


class Hurried:
    """Time passes between any two looks at the clock."""

    def __init__(self) -> None:
        self._seconds = itertools.count()

    def __call__(self) -> float:
        return float(next(self._seconds))


GROUNDS = (Sqlite.name, NewPostgres.name, Postgres.name, Stream.name, ForgetfulStream.name)


@contextmanager
def opened(names: Sequence[str], scratch: Path) -> Generator[list[Ground]]:
    """With the servers they need."""
    grounds: list[Ground] = [Sqlite()] if Sqlite.name in names else []
    with ExitStack() as stack:
        server = stack.enter_context(postgres_server(scratch)) if set(names) - {Sqlite.name} else ""
        grounds += [kind(server) for kind in (NewPostgres, Postgres) if kind.name in names]
        if set(names) & {Stream.name, ForgetfulStream.name}:
            redis = stack.enter_context(redis_server(scratch))
            grounds += [kind(server, redis) for kind in (Stream, ForgetfulStream) if kind.name in names]
        yield grounds


@contextmanager
def scratch_directory() -> Generator[Path]:
    """In memory where that is to be had: what a killed process wrote is the kernel's, on a disk or not."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="tollgate-crash-", dir=shared if shared.is_dir() else None) as scratch:
        yield Path(scratch)
