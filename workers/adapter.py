"""`tollgate-worker adapter`: train a LoRA adapter on examples, check it against its base, register it once proven."""

from __future__ import annotations

import argparse
import importlib
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from workers.cli import Command, Subparsers

EPILOG = """\
examples:
  tollgate-worker adapter train var/models/scribe --data sql.jsonl --out adapters/sql-v1
  tollgate-worker adapter check adapters/sql-v1 --model scribe
  tollgate-worker adapter register adapters/sql-v1 --model scribe --name sql --evaluation DIR --task demo-sql

Each command has more in its own --help.
"""
COMMANDS = ("train", "check", "register")


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "adapter",
        help="train, check and register LoRA adapters",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inner = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        command = cast("Command", importlib.import_module(f"workers.adapters.commands.{name}"))
        known = set(inner.choices)
        command.add_parser(inner)
        for added in set(inner.choices) - known:
            inner.choices[added].set_defaults(run_adapter=command.run)


def run(arguments: argparse.Namespace) -> int:
    return arguments.run_adapter(arguments)
