"""`python -m loadtests.soak`: the gateway for a quarter of an hour at 70 % of its capacity, with faults all the while.

Five stand-in workers, one of them killed again and again. First a closed loop says how much fits through; then requests
come at random times at a share of that rate whatever becomes of the answers, four in five of which finish and one goes
wrong at one end or the other. At the end memory, descriptors and the event loop are looked at, and the books compared:
what clients saw, what the gateway counted, what stands in the ledger, what the workers' engines counted. Exits 1 when
anything does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.table import Table

from loadtests.jobs import loop_factory
from loadtests.peers.base import ROOT
from loadtests.procstat import usage
from loadtests.soak import checks
from loadtests.soak.checks import Check
from loadtests.soak.site import CALM, SCRAPE_SECONDS, Counters, Site
from loadtests.soak.traffic import Clients
from loadtests.stats import Latency

CAPACITY_CLIENTS = 24
WARM_UP = 0.5  # share of the run in which memory may reach its high-water mark; a leak goes on after it
KILL_EVERY, DEAD_FOR = 7.0, 0.5  # seconds
LEAVE_SECONDS = 30.0  # for the last answers, and for what is left idle to be closed


@dataclass(slots=True)
class Watched:
    """What is looked at while the load is on."""

    memory: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    lags: list[float] = field(default_factory=list[float])
    kills: int = 0


def main() -> int:
    arguments = _arguments()
    console = Console(width=None if sys.stdout.isatty() else 160)
    with tempfile.TemporaryDirectory(prefix="tollgate-soak-") as scratch, Site(Path(scratch)) as site:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            document, found = runner.run(_soak(site, arguments, console))
        status = site.stop_gateway()
        found.append(Check("a clean end", status == 0, f"exit status {status}"))
    document["checks"] = checks.documents(found)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"soak-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(document, indent=1) + "\n")
    _print(console, found)
    console.print(f"results: {file}", highlight=False, soft_wrap=True)
    return 0 if all(check.holds for check in found) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=15.0, help="under load (default 15)")
    parser.add_argument("--load", type=_share, default=0.7, metavar="SHARE", help="of the capacity (default 70%%)")
    parser.add_argument(
        "--rate", type=float, metavar="N", help="requests per second, instead of a share of the capacity"
    )
    parser.add_argument("--seed", type=int, default=1, help="of everything that is left to chance")
    parser.add_argument("--out", type=Path, default=ROOT / "loadtests" / "results", metavar="DIR", help="for results")
    return parser.parse_args()


def _share(text: str) -> float:
    share = float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share: write 70% or 0.7")
    return share


async def _soak(site: Site, arguments: argparse.Namespace, console: Console) -> tuple[dict[str, object], list[Check]]:
    dice = random.Random(arguments.seed)
    steady = {name: site.workers[name] for name in (*CALM, "rough0")}
    before: dict[str, Counters] = {name: worker.counters() for name, worker in steady.items()}
    open_before = site.descriptors()
    users = Clients(site.target, dice)
    rate = arguments.rate or arguments.load * await _capacity(users, min(10.0, 6.0 * arguments.minutes))
    console.print(f"{arguments.minutes:g} minutes of {rate:.0f} requests/s", highlight=False)
    users.seen.latencies.clear()
    watched = Watched()
    background = [asyncio.create_task(_watch(site, watched)), asyncio.create_task(_kill(site, watched))]
    began = perf_counter()
    await _load(users, rate, began + 60 * arguments.minutes, dice)
    seconds = perf_counter() - began
    for task in background:
        task.cancel()
    for result in await asyncio.gather(*background, return_exceptions=True):
        if isinstance(result, Exception):
            raise result
    await _quiet(site, users)
    samples, rows = site.samples(), site.rows()
    settled = [point for point in watched.memory if point[0] >= WARM_UP * seconds]
    seen = users.seen
    found = [
        checks.memory(settled),
        checks.descriptors(open_before, site.descriptors(), len(site.workers)),
        checks.nothing_left(samples),
        checks.lag(watched.lags),
        *checks.clients(seen, samples, site.left_waiting()),
        *checks.ledger(rows, samples),
        *(checks.worker_exact(name, before[name], site.workers[name].counters(), rows) for name in CALM),
        checks.worker_bounded("rough0", before["rough0"], site.workers["rough0"].counters(), rows),
    ]
    document: dict[str, object] = {
        "seconds": seconds,
        "rate": rate,
        "asked": seen.asked,
        "left": seen.left,
        "kills": watched.kills,
        "statuses": dict(seen.statuses),
        "latency": asdict(Latency.of(seen.latencies)),
        "rss": watched.memory,
        "lag": watched.lags,
    }
    return document, found


async def _capacity(users: Clients, seconds: float) -> float:
    """Finished requests per second when each client asks again as soon as it is answered."""
    over = perf_counter() + seconds

    def again() -> None:
        if perf_counter() < over:
            users.ask(perf_counter(), 0.0, again)

    for _ in range(CAPACITY_CLIENTS):
        again()
    await asyncio.sleep(seconds * 0.2)
    asked, since = users.seen.asked, perf_counter()
    await asyncio.sleep(max(0.0, over - perf_counter()))
    rate = (users.seen.asked - asked) / (perf_counter() - since)
    while users.under_way:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    return rate


async def _load(users: Clients, rate: float, until: float, dice: random.Random) -> None:
    due = perf_counter()
    while due < until:
        if (early := due - perf_counter()) > 0:
            await asyncio.sleep(early)
        users.ask(due)
        due += dice.expovariate(rate)


async def _watch(site: Site, watched: Watched) -> None:
    """Every second; /metrics is asked as Prometheus would."""
    began = perf_counter()
    while True:
        watched.memory.append((perf_counter() - began, float(usage(site.pid).rss_bytes)))
        try:
            watched.lags.append(await asyncio.to_thread(site.metric, "tollgate_event_loop_lag_seconds"))
        except OSError:  # no answer in time: that late, at least
            watched.lags.append(SCRAPE_SECONDS)
        await asyncio.sleep(1.0)


async def _kill(site: Site, watched: Watched) -> None:
    mortal = site.workers["mortal"]
    while True:
        await asyncio.sleep(KILL_EVERY)
        await asyncio.to_thread(mortal.kill)
        watched.kills += 1
        await asyncio.sleep(DEAD_FOR)
        await asyncio.to_thread(mortal.start)


async def _quiet(site: Site, users: Clients) -> None:
    """Waits for the last answers, hangs up, and waits until the gateway has closed what it does not need, or should
    have."""
    deadline = perf_counter() + LEAVE_SECONDS
    while users.under_way and perf_counter() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    users.close()
    while perf_counter() < deadline:
        await asyncio.sleep(0.5)
        if checks.nothing_left(await asyncio.to_thread(site.samples)).holds:
            return


def _print(console: Console, found: list[Check]) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("", "check", "found"):
        table.add_column(title, overflow="fold")
    for check in found:
        table.add_row("ok" if check.holds else "FAILED", check.what, check.said, style=None if check.holds else "red")
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
