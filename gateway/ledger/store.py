"""What the ledger asks of a store, and the one error a store may raise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from gateway.ledger.record import Attempt


class LedgerError(Exception):
    """The ledger can not be opened, read or written; the message says what to do about it.

    At start it ends the program. Later the writer keeps the records and tries again.
    """


class Written(NamedTuple):
    """What became of a batch: rows added, and rows the store can never take, each with the reason."""

    added: int
    refused: list[tuple[Attempt, str]]


class Store(Protocol):
    def write(self, batch: Sequence[Attempt]) -> Written:
        """Add a batch in one transaction, skipping attempts that are there already, or raise LedgerError."""
        ...

    def spent(self, tenant: str, since: float) -> int:
        """Nano-USD of a tenant's attempts that started at or after `since` (Unix seconds)."""
        ...

    def close(self) -> None: ...
