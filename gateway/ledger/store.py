"""What the ledger asks of a store, and the one error a store may raise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from gateway.ledger.record import Attempt, Reading


class LedgerError(Exception):
    """The ledger can not be opened, read or written; the message says what to do about it.

    At start it ends the program. Later the records stay where they are, and the settler tries again.
    """


class LedgerAway(LedgerError):
    """The database does not answer, or not now: that may pass by itself."""


class Batch(NamedTuple):
    """What is written in one transaction."""

    attempts: Sequence[Attempt] = ()
    readings: Sequence[Reading] = ()


class Written(NamedTuple):
    """What became of a batch's attempts: how many were new, and those the store can never take, with the reason."""

    added: int
    refused: list[tuple[Attempt, str]]


Value = str | int | float | bytes | None
NO_VALUES: Mapping[str, Value] = {}


class Snapshot(Protocol):
    """One state of the ledger, whatever is written meanwhile.

    Queries are written in the SQL that SQLite and PostgreSQL share: values as `:name`; the column `user` always with
    its table before it; whole numbers divide to whole numbers, and `CAST(FLOOR(x) AS BIGINT)` makes one of a fraction.
    Sums are integers.
    """

    def rows(self, query: str, values: Mapping[str, Value] = NO_VALUES) -> list[tuple[Any, ...]]: ...

    def stream(self, query: str, values: Mapping[str, Value] = NO_VALUES) -> Iterator[tuple[Any, ...]]:
        """The same, of any number of rows: a few at a time in memory."""
        ...


class Change(Snapshot, Protocol):
    """A transaction that adds what is no batch (shares, audits, ...); sees its own changes."""

    def add(self, statement: str, rows: Sequence[Mapping[str, Value]]) -> int:
        """Runs it once for each of `rows`; how many rows of the table that concerned."""
        ...


class Books(Protocol):
    """The reading side: opens nothing until it is asked, and makes and migrates nothing."""

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """Raises LedgerError where there is no ledger, or none of this schema."""
        ...

    def spent(self, tenant: str, since: float) -> int:
        """Nano-USD of a tenant's requests that arrived at or after `since`, Unix seconds on a full hour."""
        ...


class Store(Books, Protocol):
    """The database: SQLite on one machine, PostgreSQL for several. Used by one thread at a time, except to read."""

    def write(self, batch: Batch) -> Written:
        """Add a batch in one transaction, with its sums, skipping what is there already; or raise LedgerError."""
        ...

    def change(self) -> AbstractContextManager[Change]:
        """One at a time in the whole ledger, to be kept short: batches may have to wait for its end. An exception takes
        it back; a LedgerError at its end leaves open whether it was made."""
        ...

    def close(self) -> None: ...


class Counts(NamedTuple):
    """Attempts since a sink was opened. Those the database can never take are in the log."""

    added: int = 0
    duplicates: int = 0
    refused: int = 0


class Sink(Protocol):
    """Where a settler puts what it reads from journals: a store, or a stream whose far end writes one."""

    def put(self, batch: Batch) -> int:
        """Takes a batch and gives its number, one more than the last one's; raises LedgerError when it can not."""
        ...

    @property
    def counts(self) -> Counts: ...

    def settled(self) -> int:
        """Every batch up to this number is in the database. May do IO; raises LedgerError when it can not."""
        ...

    def close(self) -> None: ...
