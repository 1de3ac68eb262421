"""`tollgate-worker verify`: finds what has been changed in a registry since it was put there, to the byte."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from workers.errors import WrongUsage
from workers.register import add_registry
from workers.registry.audit import Finding, audit, histories
from workers.registry.progress import shown, size
from workers.registry.record import SHORT, short
from workers.registry.store import Name, Store, digits, parse_name

if TYPE_CHECKING:
    from workers.cli import Subparsers

DONE, PROBLEM = 0, 1

EPILOG = """\
examples:
  tollgate-worker verify                     everything
  tollgate-worker verify scribe@int8         what one name stands for (scribe/int8 and scribe:sql do as well)
  tollgate-worker verify sha256:5e884898da28

Every file is read and compared with what was registered: changed, missing and added bytes are named with their file, in
artifacts, records and histories. A damaged artifact is repaired by registering its source again.
Exit status: 0 as registered, 1 something was changed, 2 wrong usage.
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "verify",
        help="find changed, missing or added bytes in the registry",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="?", metavar="DIGEST|NAME", help="one artifact; left out: all")
    parser.add_argument("--all", action="store_true", help="everything, as without a name")
    add_registry(parser)
    parser.add_argument("--format", choices=("text", "json"), default="text", help="how findings are printed")


def run(arguments: argparse.Namespace) -> int:
    store = opened(arguments.registry)
    if arguments.what and arguments.all:
        raise WrongUsage("name an artifact or say --all, not both")
    digests = [resolved(store, arguments.what)] if arguments.what else everything(store)
    files = [path for digest in digests for path in store.artifact(digest).rglob("*")]
    with shown("verifying", size(files)) as advance:
        findings = audit(store, digests, advance)
    _say(findings, digests, arguments.format)
    return PROBLEM if findings else DONE


def opened(registry: Path) -> Store:
    """Raises WrongUsage where there is no registry."""
    store = Store(registry)
    if not store.exists():
        raise WrongUsage(f"{registry} holds no registry; `tollgate-worker register` makes one, --registry DIR names it")
    return store


def everything(store: Store) -> list[str]:
    """Whatever is there or should be."""
    entries, _ = histories(store)
    return sorted({*store.digests(), *store.recorded(), *(entry.digest for entry in entries)})


def resolved(store: Store, what: str) -> str:
    """The digest that a name stands for, or that a beginning of it means. Raises WrongUsage."""
    if what.startswith("sha256:"):
        return _completed(store, what)
    name = parse_name(what)
    history = store.history(name) if name else []
    if not history:
        known = ", ".join(sorted(map(str, store.names()))) or "nothing"
        raise WrongUsage(f"{what} is not registered in {store.root}; there is {known}")
    return history[-1].digest


def named(store: Store, what: str) -> Name:
    """Raises WrongUsage for what is no registered name."""
    name = parse_name(what)
    if name is None or not store.history(name):
        resolved(store, what)
        raise WrongUsage(f"{what} is a digest; name a version or an adapter")
    return name


def _completed(store: Store, beginning: str) -> str:
    found = [digest for digest in everything(store) if digest.startswith(beginning)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise WrongUsage(f"{beginning} is not in {store.root}; `tollgate-worker registry list` says what is")
    if len(beginning) < len("sha256:") + SHORT:
        raise WrongUsage(f"{beginning} is the beginning of {len(found)} digests; write more of it")
    digits(beginning)
    return beginning


def _say(findings: list[Finding], digests: list[str], form: str) -> None:
    if form == "json":
        found = [{"file": str(finding.path), "wrong": finding.wrong} for finding in findings]
        print(json.dumps({"verified": digests, "findings": found}, indent=2))
        return
    for finding in findings:
        print(finding)
    if findings:
        print(f"{len(findings)} of what was registered is not as it was", file=sys.stderr)
    else:
        few = ", ".join(map(short, digests))
        named = few if len(digests) < 4 else f"{len(digests)} artifacts"
        print(f"{named}: as registered" if digests else "nothing is registered")
