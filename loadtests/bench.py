"""`python -m loadtests.bench`: the gateway beside its peers, in one run, on one core each.

Every figure is measured for every target in turn, several times over (A B C A B C), so that a change in the machine's
mood hits all of them and shows as noise instead of as a difference.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import math
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx2
from rich.console import Console
from rich.status import Status

from gateway.compiled import is_compiled
from loadtests.figures import FIGURES, FULL, QUICK, Effort, Figure
from loadtests.jobs import loop_factory
from loadtests.peers import PEERS, Peer, Running, Unavailable
from loadtests.peers.base import MODEL, ROOT, launch, pinned, stop
from loadtests.procstat import busy_elsewhere, raise_descriptor_limit, usage
from loadtests.report import plot, print_reasons, print_table, write_json
from loadtests.run import Run
from loadtests.targets import GOALS, Absences, judge

_QUICK_PEERS = (
    "direct",
    "nginx",
    "tollgate",
    "tollgate-settler-apart",
    "tollgate-unlimited",
    "tollgate-unledgered",
    "tollgate-redis",
    "vllm-router",
    "tollgate-2",
    "tollgate-pair",
)
_BUSY = 0.05
_RESTS = 0.05  # of a core: what a relay takes for its probes
_LOOK_SECONDS = 0.3
_LOOKS = 100  # at most
_ERRORS_ALLOWED = 0.001  # share of requests; a figure with more of them is not shown


def main() -> int:
    arguments = _arguments()
    console = Console(width=None if sys.stdout.isatty() else 200)
    wanted = arguments.only or (_QUICK_PEERS if arguments.quick else [peer.name for peer in PEERS])
    peers = [peer for peer in PEERS if peer.name in wanted]
    effort = QUICK if arguments.quick else FULL
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    if (busy := busy_elsewhere()) > _BUSY:
        said = f"others use {busy:.0%} of this machine's CPU: compare, but trust no absolute figure"
        console.print(said, style="yellow", highlight=False)
    if not is_compiled():
        said = "the gateway runs as plain Python: `make bench` compiles it first"
        console.print(said, style="yellow", highlight=False)
    raise_descriptor_limit()
    results = _run(console, peers, effort, out)
    cores = len(os.sched_getaffinity(0))
    verdicts = [judge(goal, results.values, results.absences, cores) for goal in GOALS]
    print_table(console, FIGURES, results.targets, results.values, verdicts)
    print_reasons(console, FIGURES, verdicts, results.reasons)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    no_plot = plot(out / f"{stamp}.png", FIGURES, results.targets, results.values)
    document = {
        "machine": _machine() | {"busy_elsewhere": busy},
        "effort": asdict(effort),
        "runs": results.runs,
        "left_out": results.reasons,
        "verdicts": [asdict(verdict) for verdict in verdicts],
    }
    write_json(out / f"{stamp}.json", document)
    console.print(no_plot or f"plot: {out / f'{stamp}.png'}", highlight=False, soft_wrap=True)
    console.print(f"results: {out / f'{stamp}.json'}", highlight=False, soft_wrap=True)
    return 1 if any(verdict.outcome == "missed" for verdict in verdicts) else 0


@dataclass(slots=True)
class Results:
    targets: list[str] = field(default_factory=list[str])  # those that ran
    values: dict[tuple[str, str, str], list[float]] = field(default_factory=dict[tuple[str, str, str], list[float]])
    runs: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    reasons: dict[str, str] = field(default_factory=dict[str, str])  # why something is not there, for people
    unavailable: dict[str, str] = field(default_factory=dict[str, str])
    obstacles: dict[str, str] = field(default_factory=dict[str, str])
    complaints: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])

    @property
    def absences(self) -> Absences:
        return Absences(self.unavailable, self.obstacles, self.complaints)

    def lacks(self, target: str, reason: str) -> None:
        self.reasons[target] = self.unavailable[target] = reason


def _run(console: Console, peers: Sequence[Peer], effort: Effort, out: Path) -> Results:
    """Installs, starts, measures and stops everything."""
    results = Results()
    usable = [peer for peer in peers if _installed(peer, results)]
    running: list[Running] = []
    with (
        tempfile.TemporaryDirectory(prefix="tollgate-bench-") as scratch,
        _ends_on_sigterm(),
        _own_cores() as cores,
        _worker(cores) as worker_url,
    ):
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner, console.status("") as status:
                for figures, wanted in _stages(usable):
                    _instruct(worker_url, {})  # a peer has started when it answers: the worker must
                    for peer in wanted:
                        with contextlib.suppress(Unavailable):
                            running.append(_started(peer, worker_url, Path(scratch), cores, results))
                            results.targets.append(peer.name)
                    runner.run(_measure(status, figures, running, worker_url, effort, results))
        finally:
            for one in running:
                stop(one)
            _keep_logs(Path(scratch), out)
    return results


def _stages(peers: Sequence[Peer]) -> list[tuple[list[Figure], list[Peer]]]:
    """What is measured together, and who has to be started for it. Gateways of several processes come last: their
    probes would take time from the core on which the others are measured."""
    last = [peer for peer in peers if peer.processes > 1]
    late = [figure for figure in FIGURES if any(figure.includes(peer) for peer in last)]
    first = [peer for peer in peers if peer not in last]
    return [([figure for figure in FIGURES if figure not in late], first), (late, last)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter, and the main peers alone: a look")
    parser.add_argument("--only", nargs="+", choices=[peer.name for peer in PEERS], metavar="NAME", help="these alone")
    parser.add_argument("--out", type=Path, default=ROOT / "loadtests" / "results", metavar="DIR", help="for results")
    return parser.parse_args()


@contextlib.contextmanager
def _ends_on_sigterm() -> Generator[None]:
    """SIGTERM becomes SystemExit, so that what was started is stopped."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True, slots=True)
class Cores:
    """Who runs where; an empty list is anywhere. Two processes share a core where there are not four."""

    relay: tuple[int, ...] = ()
    two_relays: tuple[int, ...] = ()
    worker: tuple[int, ...] = ()
    generator: tuple[int, ...] = ()

    @classmethod
    def among(cls, cores: Sequence[int]) -> Cores:
        if len(cores) < 2:
            return cls()
        relay, last = cores[:1], cores[-1:]
        if len(cores) < 4:
            return cls(tuple(relay), tuple(relay), tuple(last), tuple(last))
        return cls(tuple(relay), tuple(cores[:2]), tuple(cores[-2:-1]), tuple(last))

    def of(self, peer: Peer) -> tuple[int, ...]:
        return self.relay if peer.processes == 1 else self.two_relays


@contextlib.contextmanager
def _own_cores() -> Generator[Cores]:
    """Moves this process to its own core while the block runs."""
    before = os.sched_getaffinity(0)
    cores = Cores.among(sorted(before))
    os.sched_setaffinity(0, cores.generator or before)
    try:
        yield cores
    finally:
        os.sched_setaffinity(0, before)


def _installed(peer: Peer, results: Results) -> bool:
    try:
        peer.install()
    except Unavailable as reason:
        results.lacks(peer.name, str(reason))
        return False
    return True


def _started(peer: Peer, worker_url: str, scratch: Path, cores: Cores, results: Results) -> Running:
    try:
        return launch(peer, worker_url, scratch / peer.name, cores.of(peer), cores.generator)
    except Unavailable as reason:
        results.lacks(peer.name, str(reason))
        raise


@contextlib.contextmanager
def _worker(cores: Cores) -> Generator[str]:
    """The stand-in as a process of its own."""
    command = [*pinned(cores.worker), sys.executable, "-m", "loadtests.standin", "--model", MODEL, "--keep-alive", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            word, _, port = process.stdout.readline().partition(" ")
            if word != "ready":
                raise RuntimeError("the stand-in worker did not start")
            yield f"http://127.0.0.1:{int(port)}"
        finally:
            process.terminate()


async def _measure(
    status: Status,
    figures: Sequence[Figure],
    running: Sequence[Running],
    worker_url: str,
    effort: Effort,
    results: Results,
) -> None:
    for figure in figures:
        if obstacle := figure.obstacle(effort):
            results.reasons[figure.title] = results.obstacles[figure.key] = obstacle
            continue
        await asyncio.to_thread(_instruct, worker_url, figure.behaviour)
        for repetition in range(1 if figure.once else effort.repetitions):
            for one in running:
                if figure.includes(one.peer):
                    status.update(f"{figure.title}: {one.peer.name}")
                    run = await _one(figure, one, effort, repetition)
                    rest = await _until_it_rests(one)
                    if figure.of_requests and run.cpu_seconds is not None:
                        run.cpu_seconds += rest
                    _enter(results, figure, one.peer.name, repetition, run, effort)


async def _until_it_rests(one: Running) -> float:
    """The seconds of CPU that a relay still takes after its load has ended, as ours for bringing its journal into the
    ledger: they belong to its requests, and would be missing on the core on which the next one is measured."""
    if one.pid is None:
        return 0.0
    try:
        before = last = usage(one.pid).cpu_seconds
        for _ in range(_LOOKS):
            await asyncio.sleep(_LOOK_SECONDS)
            now = usage(one.pid).cpu_seconds
            if now - last < _RESTS * _LOOK_SECONDS:
                return last - before
            last = now
    except ProcessLookupError:  # it has died, which the next measurement says
        return 0.0
    return last - before


def _instruct(worker_url: str, behaviour: Mapping[str, object]) -> None:
    """Tells the worker what requests get that ask for nothing."""
    httpx2.put(f"{worker_url}/standin/behaviour", json=behaviour, trust_env=False).raise_for_status()


def _enter(results: Results, figure: Figure, target: str, repetition: int, run: Run, effort: Effort) -> None:
    results.runs.append({"figure": figure.key, "target": target, "repetition": repetition} | run.document())
    if complaint := _complaint(figure, run, effort):
        results.reasons[f"{target}, {figure.title}, repetition {repetition + 1}"] = f"left out: {complaint}"
        results.complaints[figure.key, target] = complaint
    for number in figure.numbers:  # a repetition that is left out keeps its place: comparisons are made one by one
        value = math.nan if complaint else number.read(run)
        results.values.setdefault((figure.key, number.key, target), []).append(value)


def _complaint(figure: Figure, run: Run, effort: Effort) -> str | None:
    if run.error_share > _ERRORS_ALLOWED:
        return ", ".join(f"{count} × {error}" for error, count in run.errors.most_common(3))
    if not run.requests and not run.events:
        return "nothing came through"
    return figure.complaint(run, effort)


async def _one(figure: Figure, one: Running, effort: Effort, repetition: int) -> Run:
    """Garbage is collected between measurements, not within one."""
    gc.collect()
    gc.disable()
    try:
        return await figure.measure(one.target, one.pid, effort, repetition)
    except OSError as error:  # a peer that has died refuses connections, or has no process any more
        return Run(0.0, errors=Counter({f"{type(error).__name__}: {error}": 1}))
    finally:
        gc.enable()


def _machine() -> dict[str, object]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": f"{platform.python_version()} ({os.path.realpath(sys.executable)})",
        "gateway": "compiled" if is_compiled() else "plain Python",
        "system": platform.platform(),
        "load_average": os.getloadavg(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _keep_logs(scratch: Path, out: Path) -> None:
    """The last lines of what every target said, for when it said something unexpected."""
    logs = out / "logs"
    logs.mkdir(exist_ok=True)
    for log in scratch.glob("*/output.log"):
        with log.open("rb") as source:
            source.seek(max(0, log.stat().st_size - 64 * 1024))
            (logs / f"{log.parent.name}.log").write_bytes(source.read())


if __name__ == "__main__":
    sys.exit(main())
