"""The `tollgate` command: one file per command. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence

from gateway.cli import audit, check, explain, export, keys, report, serve, settle
from gateway.cli.common import complain

COMMANDS = (serve, check, explain, keys, report, export, audit, settle)

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # what writing to a full or broken disk says
_EPILOG = """\
examples:
  tollgate check                        is router_config/ right?
  tollgate serve                        run the gateway
  tollgate explain req_019a…            why did this request go where it went?
  tollgate keys create support --write  give a tenant a key
  tollgate report --by tenant,model     who spent what
  tollgate audit --now                  does the ledger have what the workers counted?

exit status: 0 done, 1 found a problem, 2 wrong usage
"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = create_parser()
    arguments = parser.parse_args(argv)
    if "run" not in arguments:
        parser.print_help(sys.stderr)
        return 2
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has seen enough, as in `tollgate report | head`
        _drop_output()
        return 0
    except OSError as error:
        if error.filename is not None or error.errno not in _FULL:
            raise
        _drop_output()
        complain(f"standard output cannot be written ({error.strerror})")
        return 1


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit complains


def create_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tollgate",
        description="A self-hosted, OpenAI-compatible inference gateway with a model router.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        command.register(subparsers)
    return parser


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import PackageNotFoundError, version

        from gateway.compiled import is_compiled

        try:
            print(f"tollgate {version('tollgate')} ({'compiled' if is_compiled() else 'plain Python'})")
        except PackageNotFoundError:
            print("tollgate, run from its source without being installed")
        parser.exit()
