"""`python -m loadtests.attribution`: bills against the Shapley value, on an engine whose step time is known.

Tenants of very different shapes send to a simulated engine; the bill is made from what a gateway sees of it, the cost
model's coefficients included, which it finds on the way (and from as much traffic before that, unless --cold). What
each tenant is worth is the Shapley value of the game in which a set of tenants is worth the time that the engine is
busy when only their requests come. Counting tokens (those of the prompt, and those of the answer twice) is held
against the same. Exits 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from loadtests.attribution.billing import bill, by_tokens
from loadtests.attribution.engine import run
from loadtests.attribution.families import FAMILIES, Case, recorded
from loadtests.attribution.shapley import shapley

WORST = 0.05  # error of a tenant's bill that 99 % of them keep within
BEFORE = 1_000  # seeds away is the traffic that came before
BETTER = 4.0  # times better than counting tokens
COLUMNS = ("bills", "p50", "p99", "max", "tokens p50", "tokens p99", "R²", "s")


class Errors(NamedTuple):
    """By tenant, as a part of what each is worth; and the nano-USD that a bill is off by in all."""

    bill: list[float]
    tokens: list[float]
    unsure: list[float]  # standard error of what each is worth
    residue: int
    r2: float


def errors(case: Case, orders: int, seed: int, before: Case | None = None) -> Errors:
    """Of one bill; `before` came the traffic that coefficients are found from, beside the bill's own."""
    known = None
    if before is not None:
        known = bill(run(before.engine, before.requests, look_every=5.0), before.tenants).observations
    done = run(case.engine, case.requests, look_every=5.0)
    worth = shapley(case.engine, case.requests, case.tenants, orders, seed)
    made = bill(done, case.tenants, known=known)
    counted = by_tokens(done.seen, case.tenants)
    whole = sum(worth.seconds)
    return Errors(
        [abs(a / sum(made.nanousd) / (b / whole) - 1) for a, b in zip(made.nanousd, worth.seconds, strict=True)],
        [abs(a / sum(counted) / (b / whole) - 1) for a, b in zip(counted, worth.seconds, strict=True)],
        [error / value for error, value in zip(worth.error, worth.seconds, strict=True)],
        made.residue,
        made.fit.r2 if made.fit else 0.0,
    )


def quantile(values: list[float], part: float) -> float:
    """The smallest that this part of them does not exceed."""
    return sorted(values)[max(0, -int(-part * len(values) // 1) - 1)]


def main() -> int:
    arguments = _arguments()
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    names = arguments.only or [*FAMILIES, *recorded(arguments.traces)]
    width = max(map(len, ("traffic", *names)))
    console.print(_line(width, "traffic", *COLUMNS))
    found: dict[str, Errors] = {}
    for name in names:
        began = time.monotonic()
        make = FAMILIES.get(name) or recorded(arguments.traces)[name]
        seeds = range(arguments.seed, arguments.seed + arguments.seeds)
        some = [
            errors(make(seed), arguments.orders, seed, None if arguments.cold else make(seed + BEFORE))
            for seed in seeds
        ]
        found[name] = all_of(some)
        console.print(_row(width, name, found[name], time.monotonic() - began))  # some take minutes: as each is done
    told = all_of(list(found.values()))
    console.print(_row(width, "all", told, 0.0))
    p99, tokens = quantile(told.bill, 0.99), quantile(told.tokens, 0.99)
    checks = {
        f"the shares sum to the cost: residue {told.residue} nano-USD": told.residue == 0,
        f"99 % of the bills are within {p99:.1%} of what tenants are worth (target {WORST:.0%})": p99 <= WORST,
        f"that is {tokens / p99:.0f} times better than counting tokens (target {BETTER:.0f})": tokens >= BETTER * p99,
    }
    for text, holds in checks.items():
        console.print(f"{'ok' if holds else 'MISSED':7}{text}", style=None if holds else "red")
    if arguments.json:
        document = {name: one._asdict() for name, one in found.items()}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if all(checks.values()) else 1


def all_of(some: list[Errors]) -> Errors:
    return Errors(
        [error for one in some for error in one.bill],
        [error for one in some for error in one.tokens],
        [error for one in some for error in one.unsure],
        sum(abs(one.residue) for one in some),
        min(one.r2 for one in some),
    )


def _row(width: int, name: str, one: Errors, seconds: float) -> str:
    parts = [quantile(one.bill, 0.5), quantile(one.bill, 0.99), max(one.bill)]
    parts += [quantile(one.tokens, 0.5), quantile(one.tokens, 0.99)]
    shown = [f"{part:.1%}" for part in parts]
    return _line(width, name, str(len(one.bill)), *shown, f"{one.r2:.4f}", f"{seconds:.0f}" if seconds else "")


def _line(width: int, name: str, *cells: str) -> str:
    return name.ljust(width) + "".join(
        cell.rjust(max(7, len(title) + 2)) for cell, title in zip(cells, COLUMNS, strict=True)
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.attribution",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="*", metavar="TRAFFIC", help=f"some of: {', '.join(FAMILIES)}")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="runs of each, of other seeds (default 1)")
    parser.add_argument("--seed", type=int, default=1, help="the first of them (default 1)")
    parser.add_argument(
        "--orders", type=int, default=0, metavar="N", help="orders to sample; 0 for every set of tenants"
    )
    parser.add_argument("--cold", action="store_true", help="nothing is known of the engine at first")
    parser.add_argument("--traces", type=Path, metavar="DIR", help="with recorded traffic from there (see replay)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes every error there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
