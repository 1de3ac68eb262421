"""`python -m loadtests.crash`: kill -9 at every boundary that a gateway, a settler or a consumer crosses.

A fixed story is told once undisturbed, and the boundaries are counted: before and after each system call, statement and
message, and each record's way into the journal. Then there is a round for each: a process dies there, the rest is
recovered, and a referee compares the ledger with what the dead were told is safe. Exits 1 when anything is lost,
doubled or not what it ought to be.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from loadtests.crash.grounds import GROUNDS, opened, scratch_directory
from loadtests.crash.rounds import ACTS, Boundaries, Round, Rounds
from loadtests.crash.syscalls import TRACED, TracedRounds
from loadtests.peers.base import ROOT

REQUESTS = 25
FEWEST = 6  # rounds of an act
MOST_TOLD = 20  # rounds that did not hold, in the result


def main() -> int:
    arguments = _arguments()
    logging.disable(logging.CRITICAL)  # of a thousand deaths
    signal.signal(signal.SIGTERM, _end)
    console = Console(width=None if sys.stdout.isatty() else 160)
    with scratch_directory() as scratch:
        began = time.monotonic()
        counted, rounds = run(scratch, arguments.on, arguments.rounds, arguments.syscalls, console)
        document = _document(counted, rounds, time.monotonic() - began)
        if not document["holds"]:
            kept = arguments.out / f"crash-{time.strftime('%Y%m%d-%H%M%S')}-left"
            shutil.copytree(scratch, kept, symlinks=True, ignore=shutil.ignore_patterns("data"))
            console.print(f"what the rounds that failed left behind: {kept}", soft_wrap=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    file: Path = arguments.out / f"crash-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(document, indent=1) + "\n")
    _print(console, counted, rounds)
    console.print(f"results: {file}", highlight=False, soft_wrap=True)
    return 0 if document["holds"] else 1


def _end(number: int, _: object) -> NoReturn:
    """With its servers."""
    sys.exit(128 + number)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.crash", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="fewer, evenly spread, or more, with longer stories (default: all once)"
    )
    parser.add_argument("--on", type=_grounds, default=list(GROUNDS), metavar="A,B", help=f"of {', '.join(GROUNDS)}")
    parser.add_argument(
        "--syscalls", action="store_true", help="instead, whole processes under strace, over what needs no Redis"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "loadtests" / "results", metavar="DIR", help="for results")
    return parser.parse_args()


def _grounds(text: str) -> list[str]:
    if unknown := set(text.split(",")) - set(GROUNDS):
        raise argparse.ArgumentTypeError(f"there is no {', '.join(unknown)}: name some of {', '.join(GROUNDS)}")
    return text.split(",")


def run(
    scratch: Path, names: list[str], wanted: int | None, syscalls: bool, console: Console
) -> tuple[list[Boundaries], list[Round]]:
    """Every act on every ground, at all of its boundaries."""
    counted: list[Boundaries] = []
    done: list[Round] = []
    with opened(names, scratch) as grounds:
        turn = 0
        while not turn or len(done) < (wanted or 0):
            requests = REQUESTS + 3 * turn
            pairs = [(act, ground) for ground in grounds for act in ACTS if act.name in ground.acts]
            rounds = [
                (TracedRounds if syscalls else Rounds)(act, ground, requests, scratch / str(turn))
                for act, ground in pairs
                if not syscalls or act.name in TRACED
            ]
            boundaries = [one.count() for one in rounds]
            counted += boundaries
            total = sum(len(one.crossed) for one in boundaries)
            left = total if wanted is None else min(total, wanted - len(done))
            with _progress(console) as progress:
                for one, crossed in zip(rounds, boundaries, strict=True):
                    chosen = _spread(len(crossed.crossed), left / total)
                    task = progress.add_task(f"{crossed.act}, {crossed.ground}", total=len(chosen))
                    for result in one.run(crossed, chosen):
                        done.append(result)
                        progress.advance(task)
                        progress.refresh()
            turn += 1
    return counted, done


def _spread(count: int, share: float) -> list[int]:
    """Numbers from 1 to `count`, so many of them as `share` says and some at least, the last among them."""
    chosen = max(min(count, FEWEST), math.ceil(count * share))
    return sorted({count - place * count // chosen for place in range(chosen)})


def _progress(console: Console) -> Progress:
    """Without a thread of its own: the processes are forked from this one."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        auto_refresh=False,
    )


def _document(counted: list[Boundaries], rounds: list[Round], seconds: float) -> dict[str, object]:
    bad = [one for one in rounds if one.problems]
    return {
        "holds": not bad,
        "rounds": len(rounds),
        "killed": sum(one.was_killed for one in rounds),
        "lost_or_duplicated": len(bad),
        "seconds": round(seconds, 1),
        "boundaries": [
            {"act": one.act, "ground": one.ground, "count": len(one.crossed), "crossed": dict(_kinds(one.crossed))}
            for one in counted
        ],
        "failed": [one._asdict() for one in bad[:MOST_TOLD]],
    }


def _kinds(crossed: list[str]) -> Counter[str]:
    """By operation and place; how often each is crossed."""
    return Counter(crossed)


def _print(console: Console, counted: list[Boundaries], rounds: list[Round]) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("", "who dies", "ledger", "boundaries", "rounds", "killed", "not held"):
        table.add_column(title, justify="left" if title in ("", "who dies", "ledger") else "right")
    for act, ground in dict.fromkeys((one.act, one.ground) for one in counted):
        mine = [one for one in rounds if (one.act, one.ground) == (act, ground)]
        bad = [one for one in mine if one.problems]
        crossed = max(len(one.crossed) for one in counted if (one.act, one.ground) == (act, ground))
        cells = (crossed, len(mine), sum(one.was_killed for one in mine), len(bad))
        table.add_row("FAILED" if bad else "ok", act, ground, *map(str, cells), style="red" if bad else None)
    console.print(table)
    for one in [one for one in rounds if one.problems][:3]:
        console.print(
            f"{one.act}, {one.ground}, {one.at}: {one.boundary}\n  " + "\n  ".join(one.problems), markup=False
        )


if __name__ == "__main__":
    sys.exit(main())
