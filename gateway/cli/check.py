"""`tollgate check`: is a configuration directory right?"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.common import DEFAULT_DIRECTORY, Commands, add_command, complain

if TYPE_CHECKING:
    from gateway.config import Outcome

_DETAILS = """\
Every problem is printed as FILE:LINE with what is wrong and what to write instead. Warnings alone are no failure.

examples:
  tollgate check
  tollgate check deploy/router_config --format json
"""


def register(commands: Commands) -> None:
    parser = add_command(commands, "check", "check a configuration directory", _DETAILS, run)
    parser.add_argument(
        "directory", nargs="?", type=Path, default=DEFAULT_DIRECTORY, metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument("--format", choices=("table", "json"), default="table", help="default: %(default)s")


def run(arguments: argparse.Namespace) -> int:
    from gateway.config import examine

    directory: Path = arguments.directory
    if not directory.is_dir():
        complain(f"{directory} is not a directory: name the one that holds the YAML files")
        return 2
    outcome = examine(directory)
    if arguments.format == "json":
        problems = [asdict(problem) for problem in outcome.problems]
        document = {"valid": outcome.table is not None, "revision": outcome.revision, "problems": problems}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        for problem in outcome.problems:
            print(problem)
        print(f"{directory}: {_verdict(outcome)}")
    return 0 if outcome.table is not None else 1


def _verdict(outcome: Outcome) -> str:
    errors = sum(problem.severity == "error" for problem in outcome.problems)
    warnings = len(outcome.problems) - errors
    counts = [_count(errors, "error")] if errors else []
    counts += [_count(warnings, "warning")] if warnings else []
    if outcome.table is None:
        return ", ".join(counts)
    table = outcome.table
    parts = (
        _count(len(table.models), "model"),
        _count(len(table.workers), "worker"),
        _count(len(table.routes), "route"),
        _count(len(table.tenants), "tenant"),
    )
    return ", ".join((f"ok, revision {table.revision}", *parts, *counts))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
