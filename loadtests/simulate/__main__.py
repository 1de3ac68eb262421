"""`python -m loadtests.simulate`: routing policies side by side on simulated workers, in virtual time.

python -m loadtests.simulate                                             # made-up conversations
python -m loadtests.simulate mooncake.jsonl --no-decode                  # prompts alone: where routing matters most
python -m loadtests.simulate mooncake.jsonl --policies llm-d tollgate --gateways 4 --load both --share 0.1
python -m loadtests.simulate azure.csv --rate 8 --workers 4 --prefill 8000 --json out.json --plot out.png
python -m loadtests.simulate mooncake.jsonl --dies 0@600 --slower 1=3 --believed 2
python -m loadtests.simulate --adapters 12 --max-loras 4 --tenants 5 --format json

A trace is a Mooncake JSONL file (its hash ids say which prompts begin alike) or an Azure LLM CSV file. `tollgate` is
this gateway's own routing code; it knows its own dispatches and what it polls, and other gateways' after --share. The
others are rules over what --load says they know: `live` is the workers' state at every moment, as no router has it.
A worker takes prompts first come first served at --prefill uncached tokens a second, decodes all answers side by side,
and keeps --blocks blocks of 512 tokens. The same seed gives the same numbers. Exit status 0: simulated; 1: a
policy lost every request; 2: wrong usage.
"""

from __future__ import annotations

import argparse
import gc
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from loadtests.outcome import add_options, check_options
from loadtests.simulate.engine import Engine
from loadtests.simulate.figures import Figures, Result
from loadtests.simulate.policies import RULES
from loadtests.simulate.product import gateways
from loadtests.simulate.show import document, plot, print_table, print_tenants
from loadtests.simulate.sight import LOADS
from loadtests.simulate.traffic import Mix, conversations, requests_of
from loadtests.simulate.world import Fault, Routers, Site, World, ruled
from loadtests.trace import Call, Scale, read, speed_for

OURS = "tollgate"
POLICIES: dict[str, Routers] = {**{name: ruled(make) for name, make in RULES.items()}, OURS: gateways}
USUAL = ("random", "round-robin", "least-pending", "sglang", "llm-d", "dynamo", OURS)
BESIDE = "llm-d"
MADE_UP = 4_000  # requests, where there is no trace
TENANTS_SHOWN = 8


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    asked = parser.parse_args(arguments)
    try:
        check_options(asked)
        if asked.beside is not None and asked.beside not in asked.policies:
            raise ValueError(f"--beside: {asked.beside} is not among --policies: name it there too")
        calls = _calls(asked)
        site, mix = _site(asked), _mix(asked)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    results = simulate(calls, site, mix, asked.policies, range(asked.seed, asked.seed + asked.seeds))
    about: dict[str, object] = {
        "trace": asked.trace.name if asked.trace else "made up",
        "requests": len(calls),
        "seconds": calls[-1].at,
        "seeds": [asked.seed, asked.seeds],
        "site": site._asdict() | {"engine": site.engine._asdict(), "faults": [one._asdict() for one in site.faults]},
        "mix": mix._asdict(),
    }
    written = document(about, results)
    if asked.format == "json":
        print(written)
    else:
        console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
        runs = "1 seed" if asked.seeds == 1 else f"mean of {asked.seeds} seeds"
        traffic = f"{len(calls):,} requests in {calls[-1].at:,.0f} s"
        gateways = "1 gateway" if site.gateways == 1 else f"{site.gateways} gateways"
        title = f"{traffic}, {site.workers} workers, {gateways}, {runs}"
        print_table(console, title, results, asked.beside or BESIDE)
        if 1 < mix.tenants <= TENANTS_SHOWN:
            print_tenants(console, results)
    if asked.json is not None:
        asked.json.write_text(written + "\n")
    if asked.plot is not None and (problem := plot(asked.plot, results)):
        print(problem, file=sys.stderr)
    lost = [one.policy for one in results if not one.all.outcomes.get("done")]
    if lost:
        print(f"every request was lost by: {', '.join(lost)}", file=sys.stderr)
    return 1 if lost else 0


def simulate(
    calls: Sequence[Call], site: Site, mix: Mix, policies: Sequence[str], seeds: Sequence[int]
) -> list[Result]:
    """Every policy has the same requests of each seed."""
    results: list[Result] = []
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(policies) * len(seeds) * len(calls))
        for name in policies:
            progress.update(task, description=name)
            runs: list[Figures] = []
            firsts: list[tuple[float, float]] = []
            for seed in seeds:
                requests = requests_of(calls, mix, seed)
                done = _run(World(site, requests, POLICIES[name], seed), lambda count: progress.advance(task, count))
                runs.append(Figures.of(done.ended, site.workers))
                if not firsts:
                    firsts = [(one.request.at, one.first) for one in done.ended if not math.isnan(one.first)]
            results.append(Result(name, runs, firsts))
    return results


def _run(world: World, tell: Callable[[int], None]) -> World:
    gc.disable()  # millions of short-lived tuples, no cycles
    try:
        world.run(tell)
    finally:
        gc.enable()
    return world


def _calls(asked: argparse.Namespace) -> list[Call]:
    if asked.trace is None:
        calls = conversations(asked.requests or MADE_UP, asked.seed)
    else:
        calls = read(asked.trace)
    speed = asked.speed if asked.rate is None else speed_for(asked.rate, calls[: asked.requests])
    return Scale(speed, seconds=asked.seconds, requests=asked.requests).apply(calls)


def _site(asked: argparse.Namespace) -> Site:
    for name in (
        "workers",
        "gateways",
        "seeds",
        "batch",
        "blocks",
        "chunk",
        "max_loras",
        "tenants",
        "prefill",
        "believed",
    ):
        if not getattr(asked, name) > 0:
            raise ValueError(f"--{name.replace('_', '-')} must be above 0")
    for name in ("poll", "share", "interval", "interval_each", "adapter_load", "adapters", "spread"):
        value = getattr(asked, name)
        if value is not None and not 0 <= value < math.inf:
            raise ValueError(f"--{name.replace('_', '-')} must be 0 or more")
    faults = [_fault("slower", text) for text in asked.slower] + [_fault("dies", text) for text in asked.dies]
    for fault in faults:
        if not 0 <= fault.worker < asked.workers:
            raise ValueError(f"--{fault.kind}: there is no worker {fault.worker}, they are 0 to {asked.workers - 1}")
    if sum(fault.kind == "dies" for fault in faults) >= asked.workers:
        raise ValueError("--dies: one worker has to stay")
    engine = Engine(
        asked.prefill,
        asked.chunk,
        asked.interval,
        asked.interval_each,
        asked.batch,
        asked.blocks,
        asked.max_loras,
        asked.adapter_load,
        asked.decode,
    )
    return Site(
        asked.workers,
        engine,
        asked.gateways,
        asked.load,
        asked.poll,
        asked.share,
        asked.believed,
        tuple(faults),
        asked.adapters,
    )


def _fault(kind: str, text: str) -> Fault:
    """`WORKER=FACTOR[@SECONDS]` for slower, `WORKER@SECONDS` for dies."""
    rest, _, at = text.partition("@")
    worker, _, factor = rest.partition("=")
    try:
        if kind == "dies":
            return Fault("dies", int(rest), float(at))
        fault = Fault("slower", int(worker), float(at or 0.0), float(factor))
    except ValueError:
        form = "WORKER@SECONDS, as in 0@600" if kind == "dies" else "WORKER=FACTOR[@SECONDS], as in 0=3 or 0=3@600"
        raise ValueError(f"--{kind}: `{text}` is not {form}") from None
    if not (0 < fault.factor < math.inf and 0 <= fault.at < math.inf):
        raise ValueError(f"--slower: `{text}` needs a factor above 0")
    return fault


def _mix(asked: argparse.Namespace) -> Mix:
    return Mix(asked.spread, asked.tenants, asked.adapters)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.simulate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "trace",
        type=Path,
        nargs="?",
        help=f"a recorded trace; without one {MADE_UP:,} requests of made-up conversations",
    )
    add(
        "--policies",
        nargs="+",
        metavar="POLICY",
        choices=list(POLICIES),
        default=list(USUAL),
        help=f"of: {', '.join(POLICIES)}",
    )
    add(
        "--beside",
        metavar="POLICY",
        choices=list(POLICIES),
        help=f"the one the others are compared with, among them (default {BESIDE}, if it is)",
    )
    add("--seeds", type=int, default=1, metavar="N", help="runs of each, of other seeds (default 1)")
    add("--seed", type=int, default=0, help="the first of them (default 0)")

    group = parser.add_argument_group("traffic").add_argument
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--speed", type=float, default=1.0, help="2: twice as many requests a second (default 1)")
    pace.add_argument("--rate", type=float, help="the speed that gives so many requests a second on average")
    group("--requests", type=int, metavar="N", help="no more than the first so many")
    group("--seconds", type=float, help="no more than the first so many, after --speed")
    group(
        "--spread",
        type=float,
        metavar="SECONDS",
        help="calls of one moment come spread over that long (default: as coarse as the trace's clock was)",
    )
    group(
        "--tenants",
        type=int,
        default=1,
        metavar="N",
        help="conversations are dealt among; prefix caches are apart (default 1)",
    )
    group(
        "--adapters", type=int, default=0, metavar="N", help="LoRA adapters, as often as tenants would be (default 0)"
    )

    group = parser.add_argument_group("workers").add_argument
    engine = Engine()
    group("--workers", type=int, default=8, metavar="N", help="(default 8)")
    group(
        "--prefill",
        type=float,
        default=engine.prefill,
        metavar="N",
        help="uncached prompt tokens a second (default 5500)",
    )
    group(
        "--blocks", type=int, default=engine.blocks, metavar="N", help="KV cache in blocks of 512 tokens (default 1600)"
    )
    group("--batch", type=int, default=engine.batch, metavar="N", help="requests at most at once (default 256)")
    group(
        "--decode", action=argparse.BooleanOptionalAction, default=True, help="answers take time and memory (default)"
    )
    group("--chunk", type=int, default=engine.chunk, metavar="N", help="prompt tokens of a step (default 2048)")
    group(
        "--interval",
        type=float,
        default=engine.interval,
        metavar="SECONDS",
        help="between tokens of an answer alone (default 0.02)",
    )
    group(
        "--interval-each",
        type=float,
        default=engine.interval_each,
        metavar="SECONDS",
        help="more for each other answer (default 0.0004)",
    )
    group("--max-loras", type=int, default=engine.adapters, metavar="N", help="adapters that fit at once (default 4)")
    group("--adapter-load", type=float, default=engine.adapter_load, metavar="SECONDS", help="(default 2)")

    group = parser.add_argument_group("gateways").add_argument
    group("--gateways", type=int, default=1, metavar="N", help="requests are dealt among (default 1)")
    group(
        "--load",
        choices=LOADS,
        default="live",
        help="what other policies than tollgate know: everything, the last poll, own dispatches, both (default live)",
    )
    group(
        "--poll",
        type=float,
        default=0.2,
        metavar="SECONDS",
        help="between two polls of a worker; 0: never (default 0.2)",
    )
    group(
        "--share", type=float, metavar="SECONDS", help="after which gateways know what the others did (default: never)"
    )

    group = parser.add_argument_group("faults").add_argument
    group(
        "--believed",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="gateways begin with rates that are wrong by it, up for every other worker, down for those between",
    )
    group(
        "--slower",
        action="append",
        default=[],
        metavar="W=FACTOR[@SECONDS]",
        help="a worker that is so many times slower, from then on",
    )
    group(
        "--dies",
        action="append",
        default=[],
        metavar="W@SECONDS",
        help="a worker that dies; what it had is tried elsewhere",
    )
    add_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
