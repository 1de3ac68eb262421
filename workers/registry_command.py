"""`tollgate-worker registry`: what is registered, where it comes from, and what can go."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from workers.errors import WorkerToolError
from workers.register import add_registry
from workers.registry.record import Record, short
from workers.registry.store import WAIT, Name, Store
from workers.registry.sweep import sweep
from workers.verify import named, opened, resolved

if TYPE_CHECKING:
    from workers.cli import Subparsers

WIDE = 160  # columns, where there is no terminal
WRAPPED = ("DIGEST", "GATES", "BY")

EPILOG = """\
examples:
  tollgate-worker registry list
  tollgate-worker registry show scribe@int8            its record: gates, figures, files, history of the name
  tollgate-worker registry lineage scribe@int8         what it was made from, as far back as the registry knows
  tollgate-worker registry gc --superseded --dry-run   what would go

gc gives up what an interrupted command has left, and with --superseded the bytes of versions whose name has moved on;
their records stay. Exit status: 0 done, 1 a problem, 2 wrong usage.
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "registry",
        help="list, show, trace and clean what is registered",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="every name with what it stands for")
    listing.set_defaults(action=_list)
    show = actions.add_parser("show", help="everything about one artifact")
    show.add_argument("what", metavar="DIGEST|NAME")
    show.set_defaults(action=_show)
    lineage = actions.add_parser("lineage", help="what an artifact was made from")
    lineage.add_argument("what", metavar="DIGEST|NAME")
    lineage.set_defaults(action=_lineage)
    gc = actions.add_parser("gc", help="give up what nothing refers to")
    gc.add_argument("--superseded", action="store_true", help="also the bytes of what names stood for before")
    gc.add_argument("--dry-run", action="store_true", help="only say what would go")
    gc.add_argument(
        "--wait", type=float, default=WAIT, metavar="SECONDS", help="for another command (default: %(default)g)"
    )
    gc.set_defaults(action=_gc)
    for action in (listing, show, lineage, gc):
        add_registry(action)
        action.add_argument("--format", choices=("text", "json"), default="text", help="how it is printed")


def run(arguments: argparse.Namespace) -> int:
    return arguments.action(arguments, opened(arguments.registry))


def _list(arguments: argparse.Namespace, store: Store) -> int:
    rows = [_row(store, name) for name in store.names()]
    if arguments.format == "json":
        _print_json(rows)
    else:
        _print_table(rows)
    return 1 if any(row["digest"] is None for row in rows) else 0


def _print_table(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("NAME", "DIGEST", "FORMAT", "SIZE", "QUALITY", "GATES", "REGISTERED", "BY"):
        right = column in ("SIZE", "QUALITY")
        table.add_column(column, justify="right" if right else "left", no_wrap=column not in WRAPPED, overflow="fold")
    for row in rows:
        if row["digest"] is None:
            table.add_row(row["name"], "", "", "", "", "UNREADABLE, see tollgate-worker verify", "", "")
            continue
        quality = "" if row["quality"] is None else f"{row['quality']:.3f}"
        table.add_row(
            row["name"], short(row["digest"]), row["quantization"], f"{row['bytes'] / 1e6:.1f} MB", quality,
            _gates(row), row["at"][:16].replace("T", " "), row["by"],
        )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


def _row(store: Store, name: Name) -> dict[str, Any]:
    try:
        history = store.history(name)
        record = store.record(history[-1].digest, history[-1].record)
    except WorkerToolError as error:  # the others are listed all the same
        return {"name": str(name), "kind": name.kind, "digest": None, "unreadable": str(error)}
    return {
        "name": str(name),
        "kind": name.kind,
        "digest": record.digest,
        "quantization": record.quantization,
        "bytes": record.size,
        "quality": record.quality,
        "passed": record.passed,
        "override": record.override and record.override.model_dump(),
        "here": store.artifact(record.digest).is_dir(),
        "moved": sum(entry.moved for entry in history),
        "at": history[-1].at,
        "by": history[-1].by,
    }


def _gates(row: dict[str, Any]) -> str:
    gates = "passed" if row["passed"] else "FAILED"
    if row["override"]:
        gates += f", overridden by {row['override']['by']}: {row['override']['reason']}"
    if row["moved"]:
        gates += f", moved {row['moved']}×"
    return gates if row["here"] else f"{gates}, MISSING"


def _show(arguments: argparse.Namespace, store: Store) -> int:
    digest = resolved(store, arguments.what)
    record = _latest(store, arguments.what, digest)
    history = [] if arguments.what.startswith("sha256:") else store.history(named(store, arguments.what))
    if arguments.format == "json":
        _print_json({"record": record.model_dump(mode="json"), "history": [entry.model_dump() for entry in history]})
        return 0
    for line in (*_facts(record), f"  artifact     {store.artifact(digest)}"):
        print(line)
    print("  gates")
    for gate in record.gates:
        verdict = "passed" if gate.passed else "NOT JUDGED" if gate.passed is None else "FAILED"
        print(f"    {gate.gate:<16} {verdict:<10} {gate.measured} (bound {gate.bound})")
    print("  files")
    for path, file in record.files.items():
        print(f"    {file.sha256[:12]}  {file.size:>12,}  {path}")
    if history:
        print("  history")
        for entry in history:
            moved = "  moved" if entry.moved else ""
            print(f"    {entry.number:>3}  {entry.at}  {short(entry.digest)}  {entry.by}{moved}")
    return 0


def _latest(store: Store, what: str, digest: str) -> Record:
    """The record that the name was registered with last, or the last of the artifact."""
    if not what.startswith("sha256:"):
        return store.record(digest, store.history(named(store, what))[-1].record)
    return store.records(digest)[-1][1]


def _facts(record: Record) -> Iterator[str]:
    yield f"{record.name}  {record.digest}"
    yield f"  registered   {record.at} by {record.by}, tollgate {record.tollgate}"
    if record.override:
        yield f"  OVERRIDDEN   by {record.override.by}: {record.override.reason}"
    quality = "" if record.quality is None else f", quality {record.quality:.3f}"
    yield f"  format       {record.quantization}{quality}, {record.size / 1e6:.1f} MB, evaluated on {record.device}"
    if record.base:
        revision = f" at {record.base.revision}" if record.base.revision else ""
        digest = short(record.base.digest) if record.base.digest else "digest unknown"
        yield f"  made from    {record.base.name}{revision} ({digest})"
    if record.adapter:
        how = "merged" if record.adapter.merged else "kept"
        yield f"  adapter      {record.adapter.name} ({short(record.adapter.digest)}), {how}"
    if record.recipe:
        calibration = f", calibration {record.calibration_sha256[:12]}" if record.calibration_sha256 else ""
        yield f"  recipe       {record.recipe}{calibration}"
    yield f"  made with    {_libraries(record.libraries)}"
    yield f"  served with  {record.engine} ({_libraries(record.engine_libraries)})"
    needs = record.requires.model_dump(exclude_defaults=True)
    yield f"  requires     {', '.join(f'{key} {value}' for key, value in needs.items()) or 'nothing'}"


def _libraries(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items()) or "unknown"


def _lineage(arguments: argparse.Namespace, store: Store) -> int:
    chain = list(_ancestors(store, _latest(store, arguments.what, resolved(store, arguments.what))))
    if arguments.format == "json":
        _print_json(chain)
        return 0
    for depth, step in enumerate(chain):
        print(f"{'   ' * depth}{'└─ ' if depth else ''}{step['what']}  {step['digest'] or 'digest unknown'}")
        for line in step["how"]:
            print(f"{'   ' * (depth + 1)}{line}")
    return 0


def _ancestors(store: Store, record: Record) -> Iterator[dict[str, Any]]:
    """The artifact and what it was made from, as long as the registry knows those as well."""
    seen: set[str] = set()
    while True:
        seen.add(record.digest)
        yield {"what": record.name, "digest": record.digest, "how": [line.strip() for line in list(_facts(record))[1:]]}
        base = record.base
        if base is None:
            return
        older = store.records(base.digest) if base.digest and base.digest not in seen else []
        if not older:
            revision = [f"revision {base.revision}"] if base.revision else []
            yield {"what": base.name, "digest": base.digest, "how": [*revision, "not in this registry"]}
            return
        record = older[-1][1]


def _gc(arguments: argparse.Namespace, store: Store) -> int:
    swept = sweep(store, superseded=arguments.superseded, dry_run=arguments.dry_run, wait=arguments.wait)
    if arguments.format == "json":
        _print_json([one._asdict() for one in swept])
        return 0
    verb = "would give up" if arguments.dry_run else "gave up"
    for one in swept:
        print(f"{verb} {one.what} ({one.size / 1e6:.1f} MB): {one.why}")
    print(f"{verb} {sum(one.size for one in swept) / 1e6:.1f} MB")
    return 0


def _print_json(found: object) -> None:
    print(json.dumps(found, indent=2, ensure_ascii=False))
