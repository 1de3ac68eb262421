"""`python -m loadtests.load`: one measurement of one target, as JSON.

python -m loadtests.load closed http://127.0.0.1:4000 --key sk-… --model chat --connections 32 --seconds 10
python -m loadtests.load open   http://127.0.0.1:4000 --key sk-… --model chat --rate 200 --seconds 30
python -m loadtests.load paced  http://127.0.0.1:4000 --key sk-… --model chat --streams 500
python -m loadtests.load idle   http://127.0.0.1:4000 --key sk-… --model chat --streams 500 --pid 1234
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import sys
from collections.abc import Callable

from loadtests.client import Target, chat_request
from loadtests.drive import Run, closed_loop, idle_streams, open_loop, paced_streams
from loadtests.schedule import poisson, uniform


def main() -> int:
    arguments = _arguments()
    headers = (("authorization", f"Bearer {arguments.key}"),) if arguments.key else ()
    target = Target(arguments.url, headers)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        run = runner.run(_measure(arguments, target))
    json.dump(run.document(), sys.stdout, indent=1)
    print()
    return 1 if run.errors else 0


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed: the load generator must not be what is measured."""
    with contextlib.suppress(ImportError):
        return importlib.import_module("uvloop").new_event_loop
    return None


async def _measure(arguments: argparse.Namespace, target: Target) -> Run:
    mode, pid, seconds = arguments.mode, arguments.pid, arguments.seconds
    stream = arguments.stream or mode in ("paced", "idle")
    request = chat_request(target, arguments.model, stream=stream, tokens=arguments.tokens)
    if mode == "closed":
        connections = arguments.connections
        return await closed_loop(target, request, connections=connections, seconds=seconds, streams=stream, pid=pid)
    if mode == "open":
        even = arguments.arrivals == "uniform"
        arrivals = uniform(arguments.rate, seconds) if even else poisson(arguments.rate, seconds, arguments.seed)
        return await open_loop(target, request, arrivals, connections=arguments.connections, streams=stream, pid=pid)
    if mode == "paced":
        return await paced_streams(target, request, streams=arguments.streams, seconds=seconds, pid=pid)
    return await idle_streams(target, request, streams=arguments.streams, hold=seconds, pid=pid)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mode", choices=["closed", "open", "paced", "idle"])
    parser.add_argument("url")
    parser.add_argument("--model", default="standin")
    parser.add_argument("--key", help="sent as a bearer token")
    parser.add_argument("--seconds", type=float, default=5.0, help="measured; a short warm-up comes before")
    parser.add_argument("--connections", type=int, default=32, help="closed: how many; open: at most (default 32)")
    parser.add_argument("--streams", type=int, default=500, help="paced, idle")
    parser.add_argument("--stream", action="store_true", help="closed, open: ask for streams")
    parser.add_argument("--tokens", type=int, default=16, help="asked for as max_tokens")
    parser.add_argument("--rate", type=float, default=100.0, help="open: requests per second")
    parser.add_argument("--arrivals", choices=["poisson", "uniform"], default="poisson", help="open")
    parser.add_argument("--seed", type=int, default=0, help="open: of the Poisson arrivals")
    parser.add_argument("--pid", type=int, help="process under test: its CPU and memory, children included")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
