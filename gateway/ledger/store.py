"""What the ledger asks of a store, and the one error a store may raise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from gateway.ledger.record import Attempt, Reading


class LedgerError(Exception):
    """The ledger can not be opened, read or written; the message says what to do about it.

    At start it ends the program. Later the records stay where they are, and the settler tries again.
    """


class Batch(NamedTuple):
    """What is written in one transaction."""

    attempts: Sequence[Attempt] = ()
    readings: Sequence[Reading] = ()


class Written(NamedTuple):
    """What became of a batch's attempts: how many were new, and those the store can never take, with the reason."""

    added: int
    refused: list[tuple[Attempt, str]]


class Store(Protocol):
    """The database: SQLite on one machine, PostgreSQL for several."""

    def write(self, batch: Batch) -> Written:
        """Add a batch in one transaction, with its sums, skipping what is there already; or raise LedgerError."""
        ...

    def spent(self, tenant: str, since: float) -> int:
        """Nano-USD of a tenant's requests that arrived at or after `since`, Unix seconds on a full hour."""
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
