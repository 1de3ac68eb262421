"""`python -m loadtests.load`: one measurement of one target, as a table, JSON and a plot.

python -m loadtests.load open   http://127.0.0.1:4000 --key sk-… --model chat --rate 200 --seconds 30
python -m loadtests.load open   http://127.0.0.1:4000 --key sk-… --model chat --rate 20 --stream --tokens 128
python -m loadtests.load closed http://127.0.0.1:4000 --key sk-… --model chat --connections 32 --seconds 10
python -m loadtests.load paced  http://127.0.0.1:4000 --key sk-… --model chat --streams 500 --tokens 2000
python -m loadtests.load idle   http://127.0.0.1:4000 --key sk-… --model chat --streams 500 --pid 1234

open    requests start when they are due, whatever the answers do; latency counts from then
closed  each connection sends its next request when the last is answered
paced   streams that are all open at once, at the pace the worker sets, measured between their events
idle    streams that have begun, and then are only held open: what they cost in memory

Latencies come as percentiles with the 95 % confidence that order statistics give (binomial; no shape is assumed).
Exit status 0: measured; 1: a request failed, or nothing could be measured; 2: wrong usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import cast

from loadtests.client import Target, chat_request
from loadtests.jobs import Closed, Idle, Job, Open, Paced, run_job
from loadtests.outcome import add_options, tell
from loadtests.procstat import raise_descriptor_limit
from loadtests.schedule import poisson, uniform


def main() -> int:
    parser = _parser()
    asked = parser.parse_args()
    try:
        job = _job(asked)
        if not 1 <= asked.processes <= job.size:
            raise ValueError(f"--processes: this load can be divided among 1 to {job.size}")
    except ValueError as error:
        parser.error(str(error))
    return measure(job, asked, {"load": asked.mode})


def measure(job: Job, asked: argparse.Namespace, about: dict[str, object]) -> int:
    """Runs it and tells of it; gives the exit status."""
    raise_descriptor_limit()
    try:
        run = run_job(job, asked.processes)
    except (OSError, RuntimeError) as error:
        print(f"nothing was measured: {error}", file=sys.stderr)
        return 1
    return tell(run, asked, about | {"url": asked.url, "model": asked.model, "processes": asked.processes})


def add_target(parser: argparse.ArgumentParser) -> None:
    """The options that every load has."""
    parser.add_argument("url", help="of the gateway, or of a worker: http://host:port")
    parser.add_argument("--model", default="standin", help="asked for in every request (default standin)")
    parser.add_argument("--key", help="sent as a bearer token")
    parser.add_argument("--extra-body", type=_json_object, default={}, metavar="JSON", help="added to every body")
    parser.add_argument("--processes", type=int, default=1, help="load generators to divide the load among (default 1)")
    parser.add_argument("--pid", type=int, help="process under test: its CPU and memory, children included")


def target(asked: argparse.Namespace) -> Target:
    return Target(asked.url, (("authorization", f"Bearer {asked.key}"),) if asked.key else ())


def _json_object(text: str) -> dict[str, object]:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise argparse.ArgumentTypeError("write a JSON object")
    return cast("dict[str, object]", document)


def _job(asked: argparse.Namespace) -> Job:
    stream = asked.stream or asked.mode in ("paced", "idle")
    where = target(asked)
    request = chat_request(where, asked.model, stream=stream, tokens=asked.tokens, extra=asked.extra_body)
    if asked.mode == "closed":
        return Closed(where, request, asked.connections, asked.seconds, asked.warmup, stream, asked.pid)
    if asked.mode == "open":
        whole = asked.warmup + asked.seconds
        even = asked.arrivals == "uniform"
        arrivals = uniform(asked.rate, whole) if even else poisson(asked.rate, whole, asked.seed)
        if not arrivals:
            raise ValueError("--rate and --seconds leave no request to send")
        return Open(where, request, tuple(arrivals), asked.connections, asked.warmup, stream, asked.pid)
    if asked.mode == "paced":
        return Paced(where, request, asked.streams, asked.seconds, asked.warmup, asked.pid)
    return Idle(where, request, asked.streams, asked.seconds, asked.pid)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mode", choices=["open", "closed", "paced", "idle"])
    add_target(parser)
    parser.add_argument("--seconds", type=float, default=5.0, help="measured (default 5)")
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds before that, not counted (default 0.5)")
    parser.add_argument("--rate", type=float, default=100.0, help="open: requests per second (default 100)")
    parser.add_argument("--arrivals", choices=["poisson", "uniform"], default="poisson", help="open")
    parser.add_argument("--seed", type=int, default=0, help="open: of the Poisson arrivals")
    parser.add_argument("--connections", type=int, default=32, help="closed: how many; open: at most (default 32)")
    parser.add_argument("--streams", type=int, default=500, help="paced, idle: how many (default 500)")
    parser.add_argument("--stream", action="store_true", help="open, closed: ask for streams")
    parser.add_argument("--tokens", type=int, default=16, help="asked for as max_tokens (default 16)")
    add_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
