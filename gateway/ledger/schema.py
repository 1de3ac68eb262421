"""The ledger's schema: numbered migrations, forward only, each applied once, of the same number in every database."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Literal

Database = Literal["sqlite", "postgresql"]

# Holds one row per migration applied; its highest version is the database's.
VERSION_TABLE = (
    "CREATE TABLE ledger_schema "
    "(version INTEGER NOT NULL PRIMARY KEY, applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)"
)


@cache
def migrations(database: Database) -> Mapping[int, str]:
    """The SQL of every migration by its number, in order; PostgreSQL's begin where its first release did."""
    directory = resources.files("gateway.ledger").joinpath("migrations", database)
    scripts = sorted((file for file in directory.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return MappingProxyType({int(script.name[:4]): script.read_text(encoding="utf-8") for script in scripts})


def latest(database: Database) -> int:
    """The version that all migrations bring a database to."""
    return max(migrations(database))


def pending(database: Database, version: int) -> list[tuple[int, list[str]]]:
    """The migrations that a database of that version lacks: the number and the statements of each."""
    return [(number, statements(sql)) for number, sql in migrations(database).items() if number > version]


def statements(script: str) -> list[str]:
    """The statements of a script, which ends each with a semicolon at the end of a line and nowhere else."""
    return [statement for part in script.split(";\n") if (statement := part.strip())]
