"""`tollgate-worker launch`: starts the workers that the fleet gives a `launch:`, and keeps them running."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from gateway import config
from gateway.table import Table, Worker
from workers.engines.prepare import prepare
from workers.engines.proof import Proof
from workers.engines.spec import LaunchSpec
from workers.errors import WorkerToolError, WrongUsage
from workers.supervisor import inference
from workers.supervisor.keeper import Keeper
from workers.supervisor.life import Life, Policy, State
from workers.supervisor.ports import why_taken
from workers.supervisor.process import CannotStart, Claim, Engines
from workers.supervisor.report import Report, reporting

if TYPE_CHECKING:
    from workers.cli import Subparsers

DONE, PROBLEM = 0, 1

EPILOG = """\
examples:
  tollgate-worker launch --all                      every worker with `launch:` in router_config/
  tollgate-worker launch chat-int4-0                one of them
  tollgate-worker launch --all --start-within 1800  large checkpoints on slow disks

Ctrl-C or SIGTERM stops them all; when this process is killed, they go too. Logs are in LOG_DIR/workers/NAME.log.
Exit status: 0 stopped as asked, 1 a worker could not be started or was given up, 2 wrong usage.
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "launch",
        help="start engine workers of this machine and keep them running",
        description="Starts engine workers of this machine and keeps them running until it is stopped.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="workers of the fleet")
    parser.add_argument("--all", action="store_true", help="every worker that has `launch:`")
    parser.add_argument(
        "--config", type=Path, default=Path("router_config"), metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument("--log-dir", type=Path, default=Path("var/log"), metavar="DIR", help="default: %(default)s")
    parser.add_argument(
        "--parallel",
        type=_at_least_one,
        default=os.cpu_count() or 1,
        metavar="N",
        help="how many start at the same time (default: one per CPU core, %(default)s)",
    )
    parser.add_argument(
        "--start-within",
        type=_seconds,
        default=Policy().start_within,
        metavar="SECONDS",
        help="a worker that has not answered by then is ended and tried again (default: %(default)g)",
    )
    parser.add_argument(
        "--grace",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="between SIGTERM and SIGKILL when an engine is stopped (default: %(default)g)",
    )
    parser.add_argument(
        "--format", choices=("auto", "json"), default="auto", help="json: one object per change, for programs"
    )
    parser.add_argument(
        "--until-stdin-closes",
        action="store_true",
        help="also stop when standard input closes, so that the workers never outlive who started them",
    )


def run(args: argparse.Namespace) -> int:
    """Runs until it is told to stop, or until no worker is left that could run."""
    if not sys.platform.startswith("linux"):
        return _refuse(
            ["this needs Linux (/proc, prctl); start the workers yourself and write their `url` in fleet.yaml"]
        )
    try:
        table = config.load(args.config)
    except config.ConfigError as error:
        return _refuse([str(error)])
    workers = choose(table, args.names, everything=args.all)

    run_dir: Path = args.log_dir / "workers"
    problems: dict[str, None] = {}  # a missing environment is the same problem for each worker
    specs: list[LaunchSpec] = []
    proof = Proof(run_dir)
    for worker in workers:
        try:
            specs.append(prepare(table, worker, Path.cwd(), run_dir, os.environ, proof))
        except WorkerToolError as error:
            problems[str(error)] = None
    if problems:
        return _refuse(list(problems))

    engines = Engines(run_dir, args.grace)
    policy = Policy(start_within=args.start_within)
    with reporting(args.format, engines, specs) as report:
        return asyncio.run(_supervise(specs, engines, policy, args.parallel, args.until_stdin_closes, report))


def choose(table: Table, names: list[str], *, everything: bool) -> list[Worker]:
    """The workers that were asked for, each of which this machine is to start."""
    launchable = [worker for worker in table.workers.values() if worker.launch is not None]
    if everything and names:
        raise WrongUsage("name workers or say --all, not both")
    known = ", ".join(worker.name for worker in launchable) or "none"
    if everything:
        if not launchable:
            raise WrongUsage("no worker has `launch:`; give one `launch: {port: 8101}` in fleet.yaml")
        return launchable
    if not names:
        raise WrongUsage(f"name the workers to start, or say --all; with `launch:` there are: {known}")
    chosen: list[Worker] = []
    for name in dict.fromkeys(names):
        worker = table.workers.get(name)
        if worker is None or worker.launch is None:
            lacks = "is not in the fleet" if worker is None else "has no `launch:`, so it runs elsewhere"
            raise WrongUsage(f"worker {name} {lacks}; with `launch:` there are: {known}")
        chosen.append(worker)
    return chosen


async def _supervise(
    specs: list[LaunchSpec], engines: Engines, policy: Policy, parallel: int, until_stdin_closes: bool, report: Report
) -> int:
    stop = asyncio.Event()
    with _stopping_on_signals(stop, report, until_stdin_closes):
        claims, problems = await _claim(specs, engines, stop)
        if problems:
            for claim in claims:
                claim.release()
            return _refuse(problems)
        places = asyncio.Semaphore(parallel)
        async with inference.client() as client:
            keepers = [
                Keeper(spec, claim, engines, client, places, stop, policy, report)
                for spec, claim in zip(specs, claims, strict=True)
            ]
            lives: list[Life] = await asyncio.gather(*(keeper.run() for keeper in keepers))
    return PROBLEM if any(life.state is State.FAILED for life in lives) else DONE


async def _claim(specs: list[LaunchSpec], engines: Engines, stop: asyncio.Event) -> tuple[list[Claim], list[str]]:
    """The right to run each of them and a free port for it, or what is in the way, all at once."""
    problems: list[str] = []
    outcomes = await asyncio.gather(
        *(engines.claim(spec.name, lambda: not stop.is_set()) for spec in specs), return_exceptions=True
    )
    claims: list[Claim] = []
    for spec, outcome in zip(specs, outcomes, strict=True):
        if isinstance(outcome, CannotStart):
            problems.append(f"worker {spec.name}: {outcome}")
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            claims.append(outcome)
            if taken := why_taken(spec.port):
                problems.append(f"worker {spec.name}: {taken}; stop that process, or change `launch.port`")
    return claims, problems


@contextlib.contextmanager
def _stopping_on_signals(stop: asyncio.Event, report: Report, until_stdin_closes: bool) -> Generator[None]:
    """Sets `stop` on Ctrl-C, SIGTERM, SIGHUP or the end of standard input. Further ones change nothing."""
    loop = asyncio.get_running_loop()

    def on(why: str) -> None:
        if not stop.is_set():
            report.note(f"stopping the workers ({why})")
            stop.set()

    def on_stdin() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            loop.remove_reader(sys.stdin)
            on("its standard input closed")

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, on, number.name)
    if until_stdin_closes:
        loop.add_reader(sys.stdin, on_stdin)
    try:
        yield
    finally:
        if until_stdin_closes:
            loop.remove_reader(sys.stdin)
        for number in numbers:
            loop.remove_signal_handler(number)


def _refuse(problems: list[str]) -> int:
    for problem in problems:
        print(f"tollgate-worker launch: {problem}", file=sys.stderr)
    return PROBLEM


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError("must be a number of seconds")
    return seconds
