"""`python -m loadtests.limits`: eight processes with a thousand clients each share limits and a budget in one Redis.

First all is well for a while; then processes are killed and replaced and Redis is paused, at random. Each process
writes down what it admits and settles; from that a referee says whether any limit was passed at any moment, how much
of them was used, and whether anything is still held when the last process has been dead for long enough. Exits 1 when
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
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gateway.state.limits import Call, RedisLimits
from gateway.tenancy.book import Grant
from loadtests.limits import referee
from loadtests.limits.events import read
from loadtests.limits.referee import Account, Story
from loadtests.limits.site import Site
from loadtests.limits.tenants import MONEY, PLACES, RPM, TOKENS, TPM, tenants
from loadtests.peers.base import ROOT
from loadtests.soak.checks import Check, documents

WARM_UP = 4.0  # seconds until what a minute may bring at once is used up
MOST_LATE = 0.005  # seconds between an admission and the moment it is noted, beside the event loop's own lag


def main() -> int:
    arguments = _arguments()
    console = Console(width=None if sys.stdout.isatty() else 160)
    with tempfile.TemporaryDirectory(prefix="tollgate-limits-") as scratch:
        document, found = run(Path(scratch), arguments)
    document["checks"] = documents(found)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"limits-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(document, indent=1) + "\n")
    _print(console, found)
    told = {name: value for name, value in document.items() if name != "checks"}
    console.print(json.dumps(told), highlight=False, soft_wrap=True)
    console.print(f"results: {file}", highlight=False, soft_wrap=True)
    return 0 if all(check.holds for check in found) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.limits", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=8, metavar="N", help="that share the limits (default 8)")
    parser.add_argument("--clients", type=int, default=1_000, metavar="N", help="of each process (default 1000)")
    parser.add_argument("--calm", type=float, default=30.0, metavar="S", help="seconds all is well (default 30)")
    parser.add_argument("--chaos", type=float, default=90.0, metavar="S", help="seconds of kills, pauses (default 90)")
    parser.add_argument("--ttl", type=float, default=10.0, metavar="S", help="of what a process holds (default 10)")
    parser.add_argument("--longest-pause", type=float, default=4.0, metavar="S", help="of Redis (default 4)")
    parser.add_argument("--pause", type=float, default=1.5, metavar="S", help="of a client, on average (default 1.5)")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is left to chance")
    parser.add_argument("--out", type=Path, default=ROOT / "loadtests" / "results", metavar="DIR", help="for results")
    return parser.parse_args()


def run(directory: Path, arguments: argparse.Namespace) -> tuple[dict[str, object], list[Check]]:
    asked = arguments.processes * arguments.clients / arguments.pause / 5 * (arguments.calm + arguments.chaos)
    budget = int(asked * 0.2) * MONEY  # used up before the end
    with Site(
        directory, arguments.processes, arguments.clients, int(arguments.ttl * 1_000), budget, arguments.pause
    ) as site:
        site.start_all()
        began = time.monotonic()
        time.sleep(WARM_UP + arguments.calm)
        calm_until = time.monotonic()
        _chaos(site, arguments, calm_until + arguments.chaos)
        ended = site.ended()
        for life in site.lives:
            if life.killed is None:
                site.kill(life)
        time.sleep(arguments.ttl + 0.5)
        accounts = asyncio.run(_look(site.url, budget))
    stories = [Story(list(read(life.file)), life.killed or 0.0) for life in site.lives]
    span = (began + WARM_UP, calm_until)
    late = referee.late(referee.lags(stories)) + MOST_LATE
    unheard = [referee.unheard(stories, tenant, site.pauses) for tenant in (0, 1)]
    requests = referee.admitted(stories, 0)
    tokens, _ = referee.used(stories, 1)
    _, money = referee.used(stories, 3)
    spent = sum(one.amount for one in money)
    found = [
        referee.within("requests", referee.most_over(requests, RPM), RPM, RPM * late / 60 + unheard[0]),
        referee.within("tokens", referee.most_over(tokens, TPM), TPM, TPM * late / 60 + unheard[1] * TOKENS),
        referee.places(referee.most_at_once(stories, 2), PLACES),
        referee.money(referee.most_reserved(stories, 3), budget),
        referee.utilisation("requests", requests, RPM, *span),
        referee.utilisation("tokens", tokens, TPM, *span),
        referee.places_used(stories, 2, PLACES, *span),
        referee.outstanding(accounts),
        referee.agreed(spent, next(one for one in accounts if one.tenant == "money"), budget),
        referee.nothing_failed(stories, len(ended)),
    ]
    names = [tenant.name for tenant in tenants(budget)]
    document: dict[str, object] = {
        "seed": arguments.seed,
        "processes": arguments.processes,
        "clients": arguments.clients,
        "kills": len(site.lives) - arguments.processes,
        "pauses": [round(until - since, 2) for since, until in site.pauses],
        "admitted": {name: len(referee.admitted(stories, i)) for i, name in enumerate(names)},
        "refused": referee.refused(stories),
        "ended": ended,
        "late_ms": round(late * 1e3, 1),
    }
    return document, found


def _chaos(site: Site, arguments: argparse.Namespace, until: float) -> None:
    dice = random.Random(arguments.seed)
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, dice.expovariate(1 / 2.0)))
        if dice.random() < 0.5:
            site.kill_one(dice)
            continue
        seconds = dice.uniform(0.1, arguments.longest_pause)
        with site.paused():
            time.sleep(seconds / 2)
            if dice.random() < 0.3:
                site.kill_one(dice)
            time.sleep(seconds / 2)


async def _look(url: str, budget: int) -> list[Account]:
    """Each account as one sees it who wants nothing: twice, for the first look finds the dead."""
    store = RedisLimits.open(url)
    accounts: list[Account] = []
    try:
        for tenant in tenants(budget):
            limits = tenant.limits
            if limits.rpm is limits.tpm is limits.concurrency is tenant.budget is None:
                continue
            name = "tenant" if tenant.budget is None else "budget:total"
            usd = (-1, 0) if tenant.budget is None else (budget, 1)
            requests, tokens = [_or_none(limits.rpm), 0, 0, 0, 0, 0], [_or_none(limits.tpm), 0, 0, 0, 0, 0]
            claim = [0, *requests, *tokens, _or_none(limits.concurrency), 0, 0, *usd, 0, 0, 0, 0, 0, 0, 0, 0]
            for seq in (1, 2):
                written = ["auditor", seq, 1_000, -1, [name], [claim], []]
                answers = await store.claim([Call(tenant.name, written)])
            grant = Grant(*answers[0][2:])
            held = grant.requests_total + grant.tokens_total + grant.places_total + grant.money_total
            accounts.append(Account(tenant.name, held, grant.money_spent))
    finally:
        await store.close()
    return accounts


def _or_none(limit: int | None) -> int:
    return -1 if limit is None else limit


def _print(console: Console, found: list[Check]) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("", "check", "found"):
        table.add_column(title, overflow="fold")
    for check in found:
        table.add_row("ok" if check.holds else "FAILED", check.what, check.said, style=None if check.holds else "red")
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
