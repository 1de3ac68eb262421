"""The ledger's URL."""

from pathlib import Path

import pytest

from gateway.ledger.location import check_location, sqlite_path, without_password
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


@pytest.mark.parametrize(
    "url",
    [
        "none",
        "postgresql://user:secret@db/ledger",
        "postgres://db/ledger",
        "postgresql://user:sec%40ret@db-0:5432,db-1:5432/ledger?sslmode=verify-full",
        "postgresql://[::1]:5432/ledger",
        "postgresql://user@/ledger?host=/run/postgresql",
    ],
)
def test_locations_of_postgresql(url):
    check_location(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://",
        "postgresql://db",
        "postgresql://user:secret@db/",
        "postgresql://user:sec@ret@db/ledger",
        "postgresql://user:secret@db:port/ledger",
        "postgresql:///ledger",
        "postgresql://user:secret@db,/ledger",
    ],
)
def test_an_incomplete_location_of_postgresql_is_refused_without_its_password(url):
    with pytest.raises(LedgerError, match=r"write `ledger: postgresql://USER") as caught:
        check_location(url)
    assert "sec" not in str(caught.value).partition(":")[0]


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


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///var/ledger.db", "sqlite:///var/ledger.db"),
        ("postgresql://db/ledger", "postgresql://db/ledger"),
        ("postgresql://u@db/ledger", "postgresql://u@db/ledger"),
        ("postgresql://u:secret@db,db2:5432/ledger", "postgresql://u:***@db,db2:5432/ledger"),
        ("postgresql://u:sec@ret:x@db/ledger", "postgresql://u:***@db/ledger"),
        ("postgresql://db/x?password=secret&sslmode=require", "postgresql://db/x?password=***&sslmode=require"),
    ],
)
def test_a_location_can_be_shown(url, shown):
    assert without_password(url) == shown
