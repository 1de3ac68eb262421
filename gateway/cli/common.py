"""What the commands share: how they register, and the options they have in common."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

# argparse gives what `add_subparsers` returns no public name.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # pyright: ignore[reportPrivateUsage]

DEFAULT_DIRECTORY = Path("router_config")

Run = Callable[[argparse.Namespace], int]


def add_command(commands: Commands, name: str, summary: str, details: str, run: Run | None) -> argparse.ArgumentParser:
    """A command with its own help; `details` holds the examples."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if run is not None:
        parser.set_defaults(run=run)
    return parser


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, default=DEFAULT_DIRECTORY, metavar="DIR", help="directory of YAML files (%(default)s)"
    )


def complain(message: object) -> None:
    print(f"tollgate: {message}", file=sys.stderr)
