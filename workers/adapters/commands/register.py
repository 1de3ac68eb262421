"""`tollgate-worker adapter register`: an adapter that was checked and proven becomes one that may serve."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from workers.adapters.check import Finding
from workers.adapters.commands.check import examined, on_model, refused
from workers.adapters.gates import GENERAL, judged
from workers.adapters.manifest import read_manifest
from workers.adapters.served import load
from workers.errors import WorkerToolError, WrongUsage
from workers.evaluation.result import FILE, Evaluation, read
from workers.register import add_destination, check_name, perform
from workers.registry.store import Name

if TYPE_CHECKING:
    from workers.cli import Subparsers

EPILOG = f"""\
examples:
  tollgate-worker evaluate --candidate var/models/scribe --adapter adapters/sql-v1 --reference var/models/scribe \\
      --task demo-sql --out var/evaluations/sql-v1
  tollgate-worker adapter register adapters/sql-v1 --model scribe --name sql --evaluation var/evaluations/sql-v1 \\
      --task demo-sql --tenants analytics

Refused is what `adapter check` would not let serve, what has not passed its evaluation, what does not do --task better
than its base beyond chance, and what reads general text worse than --general allows (default: × {GENERAL:g}, off does
not ask). The adapter's place in the registry has its digest in its path, so engines and gateways never take a new one
for the old. Clients ask for it as MODEL:NAME. Exit status: 0 registered, 1 refused, 2 wrong usage.
"""


class NotProven(WorkerToolError):
    """The adapter may not be registered; the message says why."""


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "register",
        help="put a proven adapter into the registry and into models.yaml",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("artifact", type=Path, metavar="DIR", help="the adapter, as PEFT saves it")
    parser.add_argument("--model", required=True, metavar="NAME", help="the model it is an adapter of")
    parser.add_argument("--name", required=True, metavar="NAME", help="what requests call it: MODEL:NAME")
    parser.add_argument("--evaluation", type=Path, required=True, metavar="DIR", help="what evaluate has written of it")
    parser.add_argument("--task", required=True, metavar="NAME", help="of the evaluation: what it was made for")
    parser.add_argument(
        "--general", type=_ratio, default=GENERAL, metavar="RATIO", help="perplexity of general text, at most, or off"
    )
    parser.add_argument("--tenants", metavar="NAMES", help="who may use it, with commas (default: everyone)")
    parser.add_argument("--base", type=Path, metavar="DIR", help="where no checkpoint of the model is here")
    add_destination(parser)


def run(arguments: argparse.Namespace) -> int:
    name = Name("adapter", arguments.model, arguments.name)
    check_name(name)
    directory: Path = arguments.artifact
    if not directory.is_dir():
        raise WrongUsage(f"no such directory: {directory}; an adapter is a directory as PEFT saves it")
    tenants = _tenants(arguments)
    evaluation = read(arguments.evaluation)
    _check_reference(directory, evaluation)
    proven = judged(evaluation, arguments.task, arguments.general)
    _refuse_misfit(directory, _findings(arguments))
    with tempfile.TemporaryDirectory() as scratch:
        arguments.evaluation = _written(proven, arguments.evaluation, Path(scratch) / "evaluation")
        return perform(arguments, name, settings={"tenants": tenants} if tenants else None)


def _check_reference(directory: Path, evaluation: Evaluation) -> None:
    """What an adapter adds is seen only beside the base that it was trained on."""
    manifest = read_manifest(directory)
    reference = evaluation.reference.digest
    if manifest is not None and reference is not None and reference != manifest.base_digest:
        raise NotProven(
            f"{directory} was trained on {manifest.base} ({manifest.base_digest[:19]}…) and evaluated against another "
            f"checkpoint ({evaluation.reference.name}, {reference[:19]}…); evaluate it against its own base"
        )


def _findings(arguments: argparse.Namespace) -> list[Finding]:
    if arguments.base is not None or arguments.no_config:
        if arguments.base is None:
            raise WrongUsage("with --no-config give the checkpoint it is to serve on with --base DIR")
        return examined(arguments.artifact, arguments.base, ())
    return on_model(arguments.artifact, arguments.config, arguments.model)


def _refuse_misfit(directory: Path, found: list[Finding]) -> None:
    for finding in found:
        if finding.level == "warning":
            print(f"warning: {finding.what}: {finding.message}", file=sys.stderr)
    if refused(found):
        wrong = "; and ".join(f"{one.what}: {one.message}" for one in found if one.level == "error")
        raise NotProven(f"{directory} is not registered: {wrong}")


def _written(proven: Evaluation, measured: Path, out: Path) -> Path:
    """The evaluation with the adapter's own verdicts, beside its report."""
    if measured.is_dir():
        shutil.copytree(measured, out)
    else:
        out.mkdir()
    (out / FILE).write_text(proven.to_json(), encoding="utf-8")
    return out


def _tenants(arguments: argparse.Namespace) -> list[str]:
    """Known to the configuration, of which a gateway would not take the result otherwise. Raises WrongUsage."""
    if arguments.tenants is None:
        return []
    names = [name.strip() for name in arguments.tenants.split(",") if name.strip()]
    if not names or arguments.no_config:
        raise WrongUsage("--tenants: write names of the configuration's tenants with commas, or leave it out")
    known = load(arguments.config).tenants
    if unknown := [name for name in names if name not in known]:
        raise WrongUsage(
            f"--tenants: {arguments.config} has no tenant {unknown[0]}; there are {', '.join(sorted(known))}"
        )
    return names


def _ratio(text: str) -> float | None:
    if text == "off":
        return None
    value = float(text)
    if not 0 < value < 1000:
        raise ValueError
    return value
