"""The ledger's URL."""

from pathlib import Path

import pytest

from gateway.ledger.location import sqlite_path
from gateway.ledger.store import LedgerError


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///var/ledger.db", Path("var/ledger.db")),
        ("sqlite:///ledger.db", Path("ledger.db")),
        ("sqlite:////srv/tollgate/ledger.db", Path("/srv/tollgate/ledger.db")),
    ],
)
def test_three_slashes_are_relative_and_four_absolute(url, path):
    assert sqlite_path(url) == path


@pytest.mark.parametrize("url", ["postgresql://user:secret@db/ledger", "postgres://db/ledger"])
def test_postgresql_is_refused_with_what_works(url):
    with pytest.raises(LedgerError, match=r"PostgreSQL yet: use `ledger: sqlite:///var/ledger\.db`") as caught:
        sqlite_path(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ledger.db",
        "sqlite://var/ledger.db",
        "sqlite:///",
        "sqlite:////",
        "sqlite:///var/",
        "sqlite:///:memory:",
        "sqlite:///ledger.db?mode=ro",
        "mysql://user:secret@db/ledger",
    ],
)
def test_other_urls_are_refused_with_an_example(url):
    with pytest.raises(LedgerError, match=r"write `ledger: sqlite:///var/ledger\.db`") as caught:
        sqlite_path(url)
    assert "secret" not in str(caught.value)
