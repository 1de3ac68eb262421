"""`tollgate serve` and `tollgate up`: run the gateway, without and with the workers it starts itself."""

from __future__ import annotations

import argparse

from gateway.cli.common import Commands, add_command, add_config

_SERVE = """\
The workers must be running; `tollgate up` starts them too.
A change to the configuration takes effect within 2 s. SIGTERM drains and ends, a second one does not wait for the
drain. With `server.processes` above 1, SIGHUP replaces the processes one after another without losing a request.

examples:
  tollgate serve
  tollgate serve --config /etc/tollgate --port 8080
"""

_UP = """\
Workers with `launch:` in the configuration are started on this machine, watched, started again when they end, and
stopped with the gateway.

examples:
  tollgate up
  tollgate up --config router_config --port 4100
"""


def register(commands: Commands) -> None:
    for name, summary, details, run in (
        ("serve", "run the gateway", _SERVE, run_serve),
        ("up", "run the gateway and the workers of this machine", _UP, run_up),
    ):
        parser = add_command(commands, name, summary, details, run)
        add_config(parser)
        parser.add_argument(
            "--port", type=_port, metavar="N", help="listen here instead of at `server.port`; 0 takes a free port"
        )


def run_serve(arguments: argparse.Namespace) -> int:
    from gateway import app

    return app.run(arguments.config, arguments.port)


def run_up(arguments: argparse.Namespace) -> int:
    from gateway import up

    return up.run(arguments.config, arguments.port)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: write a number from 0 to 65535")
    return int(text)
