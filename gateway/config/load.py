"""From a directory to a table, or to everything that is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from gateway.config.compile import compile_table
from gateway.config.draft import Draft, draft
from gateway.config.lint import lint
from gateway.config.problems import ConfigError, Problem
from gateway.config.source import read
from gateway.table import Table


class Outcome(NamedTuple):
    """`table` is None when one of the problems is an error; `revision` is of what was read, valid or not."""

    table: Table | None
    problems: list[Problem]
    revision: str


def examine(directory: Path, environ: Mapping[str, str] | None = None) -> Outcome:
    """Reads, checks and compiles a directory. `environ` stands in for the process's own environment."""
    source = read(directory, os.environ if environ is None else environ)
    drafted = draft(source)
    if not source.unread:  # where names are missing, each mention of one would be reported for nothing
        lint(drafted)
    table = None if source.findings.failed else compile_table(drafted)
    return Outcome(table, source.findings.sorted(), source.revision)


def load(directory: Path, environ: Mapping[str, str] | None = None) -> Table:
    """The table a directory compiles to. Raises ConfigError with all problems when one of them is an error."""
    outcome = examine(directory, environ)
    if outcome.table is None:
        raise ConfigError(outcome.problems)
    return outcome.table


def ledger_location(directory: Path, environ: Mapping[str, str] | None = None) -> str:
    """The URL of the ledger alone: a bill can be read while the rest of the directory is in the making.

    Raises ConfigError where the URL itself cannot be known.
    """
    drafted = draft(read(directory, os.environ if environ is None else environ))
    _require(drafted, "ledger")
    return drafted.settings.ledger


def key_store_location(drafted: Draft) -> tuple[str, str]:
    """The URLs of the state and the ledger, which say where keys are kept. Raises ConfigError where one is unknown."""
    _require(drafted, "state", "ledger")
    return drafted.settings.state, drafted.settings.ledger


def _require(drafted: Draft, *keys: str) -> None:
    source = drafted.source
    if source.unread or any(key in source.data and key not in drafted.settings.model_fields_set for key in keys):
        raise ConfigError(source.findings.sorted())


def check(directory: Path, environ: Mapping[str, str] | None = None) -> list[Problem]:
    """All errors and warnings, in file order; empty for a directory that is as it should be."""
    return examine(directory, environ).problems
