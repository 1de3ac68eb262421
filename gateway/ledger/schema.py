"""The ledger's schema: numbered migrations, forward only, each applied once."""

from __future__ import annotations

from functools import cache
from importlib import resources

# Holds one row per migration applied; its highest version is the file's.
VERSION_TABLE = (
    "CREATE TABLE ledger_schema "
    "(version INTEGER NOT NULL PRIMARY KEY, applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP)"
)


@cache
def migrations() -> tuple[str, ...]:
    """The SQL of every migration, in order: the first brings an empty database to version 1."""
    files = resources.files("gateway.ledger").joinpath("migrations").iterdir()
    scripts = sorted((file for file in files if file.name.endswith(".sql")), key=lambda file: file.name)
    return tuple(script.read_text(encoding="utf-8") for script in scripts)


def statements(script: str) -> list[str]:
    """The statements of a script, which ends each with a semicolon at the end of a line and nowhere else."""
    return [statement for part in script.split(";\n") if (statement := part.strip())]
