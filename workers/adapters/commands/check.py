"""`tollgate-worker adapter check`: whether engines can serve an adapter on its base, and do what it was trained for."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from workers.adapters.base import read_base
from workers.adapters.check import Finding, Room, check
from workers.adapters.served import load, model_of, origin, places, rooms
from workers.errors import WrongUsage

if TYPE_CHECKING:
    from workers.cli import Subparsers

DONE, PROBLEM = 0, 1
EPILOG = """\
examples:
  tollgate-worker adapter check adapters/sql-v1 --base var/models/scribe
  tollgate-worker adapter check adapters/sql-v1 --model scribe --format json

--model asks for every version of the model in models.yaml whose checkpoint is here, and whether the workers that take
its adapters have room for the rank. Looked at are the files themselves, what vLLM does not take, ranks, every layer's
shape against the base, numbers that are none, the base it was trained on, and a tokenizer that engines would not use.
Exit status: 0 engines can serve it (there may be warnings), 1 they can not, 2 wrong usage.
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "check",
        help="whether engines can serve an adapter",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("adapter", type=Path, metavar="DIR", help="the adapter, as PEFT saves it")
    on = parser.add_mutually_exclusive_group(required=True)
    on.add_argument("--base", type=Path, metavar="DIR", help="the checkpoint it is to serve on")
    on.add_argument("--model", metavar="NAME", help="the model of models.yaml it is to serve on")
    parser.add_argument(
        "--config", type=Path, default=Path("router_config"), metavar="DIR", help="default: %(default)s"
    )
    parser.add_argument("--max-lora-rank", type=int, metavar="N", help="what the worker was started with")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="default: %(default)s")


def run(arguments: argparse.Namespace) -> int:
    directory: Path = arguments.adapter
    if not directory.is_dir():
        raise WrongUsage(f"no such directory: {directory}; an adapter is a directory as PEFT saves it")
    told = (Room("with --max-lora-rank", arguments.max_lora_rank),) if arguments.max_lora_rank else ()
    if arguments.base is not None:
        found = examined(directory, arguments.base, told)
    else:
        found = on_model(directory, arguments.config, arguments.model, told)
    show(directory, found, arguments.format)
    return PROBLEM if refused(found) else DONE


def on_model(directory: Path, config: Path, name: str, told: tuple[Room, ...] = ()) -> list[Finding]:
    """On every version of a configured model whose checkpoint is here; what all of them find is said once."""
    table = load(config)
    model = model_of(table, name)
    has_room = told + rooms(table, model)
    each = [(place, examined(directory, place.artifact, has_room)) for place in places(table, model, Path.cwd())]
    everywhere = [one for one in each[0][1] if all(one in found for _, found in each)]
    alone = [
        Finding(one.level, f"{one.what} ({place.version})", one.message)
        for place, found in each
        for one in found
        if one not in everywhere
    ]
    return sorted(everywhere + alone, key=lambda finding: finding.level)


def examined(directory: Path, base: Path, has_room: tuple[Room, ...]) -> list[Finding]:
    return check(directory, read_base(base), origin(base), has_room)


def refused(found: Sequence[Finding]) -> bool:
    return any(finding.level == "error" for finding in found)


def show(directory: Path, found: Sequence[Finding], format: str) -> None:
    if format == "json":
        verdict = {"adapter": str(directory), "ok": not refused(found), "findings": [asdict(one) for one in found]}
        print(json.dumps(verdict, indent=2))
        return
    for finding in found:
        print(f"{finding.level:<8} {finding.what}: {finding.message}")
    errors = sum(finding.level == "error" for finding in found)
    verdict = f"{errors} to be put right" if errors else "engines can serve it"
    print(f"{directory}: {verdict}", file=sys.stderr)
