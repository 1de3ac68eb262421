"""The ledgers that processes die over."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from gateway.ledger.store import Sink
from loadtests.crash import acts
from loadtests.crash.rounds import Ground

_WRITERS = ("gateway", "settler", "gateway and settler")


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


GROUNDS = ("sqlite",)


@contextmanager
def opened(name: str, scratch: Path) -> Generator[Ground]:
    yield Sqlite()
