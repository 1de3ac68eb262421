"""From a directory to a table, or to everything that is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import yaml
from pydantic import ValidationError

from gateway.config.compile import compile_decisions, compile_price, compile_table
from gateway.config.draft import Draft, draft
from gateway.config.lint import lint
from gateway.config.problems import ConfigError, Problem
from gateway.config.source import read
from gateway.config.written.models import Models
from gateway.table import Price, Table

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}
MAX_PRICE_LIST = 1_000_000  # characters


class Outcome(NamedTuple):
    """`table` is None when one of the problems is an error; `revision` is of what was read, valid or not."""

    table: Table | None
    problems: list[Problem]
    revision: str


def examine(
    directory: Path, environ: Mapping[str, str] | None = None, instead: Mapping[Path, bytes] | None = None
) -> Outcome:
    """Reads, checks and compiles a directory. `environ` stands in for the process's own environment, `instead` for what
    files of the directory hold."""
    source = read(directory, os.environ if environ is None else environ, instead)
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


def decisions_location(directory: Path, environ: Mapping[str, str] | None = None) -> Path | None:
    """Where gateways of this configuration keep their decisions, None for nowhere. Raises ConfigError as above."""
    drafted = draft(read(directory, os.environ if environ is None else environ))
    for name in ("ledger", "metering", "decisions"):
        _require(drafted, name)
    return compile_decisions(drafted.settings).directory


def server_location(directory: Path, environ: Mapping[str, str] | None = None) -> str:
    """The URL at which a gateway of this configuration answers on this machine. Raises ConfigError as above."""
    drafted = draft(read(directory, os.environ if environ is None else environ))
    _require(drafted, "server")
    server = drafted.settings.server
    host = _LOOPBACK.get(server.host, server.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{server.port}"


def price_list(directory: Path, environ: Mapping[str, str] | None = None) -> dict[str, Price]:
    """The `prices:` of a directory, whatever else is wrong with it. Raises ConfigError where they cannot be known."""
    drafted = draft(read(directory, os.environ if environ is None else environ))
    _require(drafted, "prices")
    return {name: compile_price(spec) for name, spec in drafted.settings.prices.items()}


def read_prices(text: str) -> dict[str, Price]:
    """A price list in YAML by itself, with `prices:` above it or without. Raises ValueError that says what is wrong."""
    if len(text) > MAX_PRICE_LIST:
        raise ValueError(f"a price list of more than {MAX_PRICE_LIST} characters")
    try:
        found: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"it is not YAML: {' '.join(str(error).split())}") from None
    listed: Any = cast("dict[str, Any]", found).get("prices", found) if isinstance(found, dict) else found
    try:
        written = Models.model_validate({"prices": listed}).prices
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"][1:])
        raise ValueError(f"{where or 'the list'}: {first['msg']}") from None
    return {name: compile_price(spec) for name, spec in written.items()}


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
