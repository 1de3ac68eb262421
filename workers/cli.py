"""`tollgate-worker`: one subcommand per module, each with `add_parser(subparsers)` and `run(arguments) -> int`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast

from workers.errors import WorkerToolError

if TYPE_CHECKING:
    # argparse names this class in its documentation, but exports it under a private name.
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # pyright: ignore[reportPrivateUsage]

COMMANDS = (
    "plan",
    "demo_models",
    "quantize",
    "evaluate",
    "report",
    "adapter",
    "register",
    "verify",
    "registry_command",
    "launch",
)


class Command(Protocol):
    """What a command module exposes; `add_parser` sets `run` as the parser's default."""

    def add_parser(self, subparsers: Subparsers) -> None: ...
    def run(self, arguments: argparse.Namespace) -> int: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0 done, 1 found a problem, 2 wrong usage."""
    _open_closed_streams()
    parser = argparse.ArgumentParser(
        prog="tollgate-worker",
        description="Build, quantize and run the workers behind the gateway.",
        epilog="Example: tollgate-worker demo-models && tollgate-worker launch scribe-fp8-0",
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        command = cast("Command", importlib.import_module(f"workers.{name}"))
        known = set(subparsers.choices)
        command.add_parser(subparsers)
        for added in set(subparsers.choices) - known:
            subparsers.choices[added].set_defaults(run=command.run)
    arguments = parser.parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except WorkerToolError as problem:
        print(f"tollgate-worker: {problem}", file=sys.stderr)
        return problem.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough, as in `tollgate-worker plan 7B | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit complains
        return 0


def _open_closed_streams() -> None:
    """What the caller has closed leads nowhere: no file of ours gets its number, and is printed into."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)


if __name__ == "__main__":
    sys.exit(main())
