"""From the `ledger:` URL to the database it means."""

from __future__ import annotations

from gateway.ledger.location import NONE, check_location, is_postgresql, sqlite_path
from gateway.ledger.store import Books, LedgerError, Store


def check_url(url: str) -> None:
    """Raises LedgerError that says what is wrong with the URL of a ledger, without asking what it leads to, and says
    nothing of the password in it."""
    check_location(url)
    if is_postgresql(url):
        from gateway.ledger.postgres import check_parameters

        check_parameters(url)


def open_store(url: str, *, make: bool = True) -> Store:
    """For writing: brings the schema up to date. An SQLite file that is not there is made, if a program is to `make` it
    that begins."""
    if is_postgresql(url):
        from gateway.ledger.postgres import PostgresStore  # only who has such a ledger pays for its library

        return PostgresStore(url)
    from gateway.ledger.sqlite import SqliteStore

    return SqliteStore(sqlite_path(_kept(url)), make=make)


def open_books(url: str) -> Books:
    """For reading."""
    if is_postgresql(url):
        from gateway.ledger.postgres import PostgresBooks

        return PostgresBooks(url)
    from gateway.ledger.sqlite import SqliteBooks

    return SqliteBooks(sqlite_path(_kept(url)))


def _kept(url: str) -> str:
    if url == NONE:
        raise LedgerError("this gateway keeps no ledger: write one under `ledger:` instead of none")
    return url
