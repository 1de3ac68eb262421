"""`tollgate-worker register`: puts an evaluated artifact into the registry, and its version into models.yaml."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from gateway.config.written.base import NAME
from gateway.config.written.models import Requires as WrittenRequires
from workers.errors import WrongUsage
from workers.registry.digest import paths_of_artifact
from workers.registry.mlflow import Mlflow
from workers.registry.progress import shown, size
from workers.registry.record import Override, Record
from workers.registry.registration import Announce, Asked, Registered, register
from workers.registry.store import WAIT, Name, Store

if TYPE_CHECKING:
    from workers.cli import Subparsers

DIRECTORY = Path("var/registry")
MODEL = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}"
GB = 10**9

EPILOG = """\
examples:
  tollgate-worker register var/models/scribe-int8 --evaluation var/eval/int8 --model scribe --version int8
  tollgate-worker register DIR --evaluation DIR --model chat --version fp8 --require compute_capability=8.9
  tollgate-worker register DIR --evaluation DIR --model chat --version fp8 --move     the name stood for other bytes
  tollgate-worker register DIR --evaluation DIR --model chat --version fp8 --mlflow http://mlflow:5000

Refused is what has not passed its gates, whose evaluation is of other bytes, or whose manifest does not say how it was
made. The version goes into the configuration only when a gateway would take the result. Interrupted, run it again.
An MLflow server is told as well where --mlflow or MLFLOW_TRACKING_URI names one; MLFLOW_TRACKING_TOKEN, or
MLFLOW_TRACKING_USERNAME with MLFLOW_TRACKING_PASSWORD, say who is asking.
Exit status: 0 registered, 1 refused or failed, 2 wrong usage.
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "register",
        help="put an evaluated artifact into the registry and into models.yaml",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("artifact", type=Path, metavar="ARTIFACT", help="the directory with the checkpoint")
    parser.add_argument("--evaluation", type=Path, required=True, metavar="DIR", help="what evaluate has written of it")
    parser.add_argument("--model", required=True, metavar="NAME", help="the model it is a version of")
    parser.add_argument("--version", required=True, metavar="NAME", help="what the version is to be called")
    add_destination(parser)
    parser.add_argument("--context", type=int, metavar="TOKENS", help="of a model that is not in models.yaml yet")
    parser.add_argument(
        "--require",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="what a machine must have, instead of what the manifest says: compute_capability, driver, cpu, cpu_flags"
        " (with commas), memory_gb; an empty value asks for nothing",
    )


def add_destination(parser: argparse.ArgumentParser) -> None:
    """The options that say where to and by whom, for every command that registers something."""
    add_registry(parser)
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--config",
        type=Path,
        default=Path("router_config"),
        metavar="DIR",
        help="the configuration that gets it (default: %(default)s)",
    )
    where.add_argument("--no-config", action="store_true", help="leave every configuration alone")
    tell = parser.add_mutually_exclusive_group()
    tell.add_argument("--mlflow", metavar="URL", help="an MLflow server to tell (default: MLFLOW_TRACKING_URI)")
    tell.add_argument("--no-mlflow", action="store_true", help="tell none")
    parser.add_argument("--move", action="store_true", help="let the name stand for these bytes from now on")
    parser.add_argument("--override", metavar="REASON", help="register although it has not passed; kept for ever")
    parser.add_argument("--by", metavar="NAME", help="who registers (default: who is logged in)")
    parser.add_argument(
        "--wait", type=float, default=WAIT, metavar="SECONDS", help="for another command (default: %(default)g)"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="how the result is printed")


def add_registry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--registry", type=Path, default=DIRECTORY, metavar="DIR", help="where artifacts lie (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    name = Name("version", arguments.model, arguments.version)
    check_name(name)
    return perform(arguments, name, context=arguments.context or _context(arguments.artifact))


def perform(
    arguments: argparse.Namespace, name: Name, context: int | None = None, settings: Mapping[str, Any] | None = None
) -> int:
    """Registers what a command's arguments say under a name, and prints what came of it."""
    asked = Asked(
        artifact=arguments.artifact,
        evaluation=arguments.evaluation,
        name=name,
        by=arguments.by or _who(),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        tollgate=_tollgate(),
        config=None if arguments.no_config else arguments.config,
        context=context,
        override=_override(arguments),
        requires=requires(getattr(arguments, "require", [])),
        move=arguments.move,
        wait=arguments.wait,
        settings=settings or {},
    )
    total = 2 * size(paths_of_artifact(asked.artifact).values())
    with shown(f"registering {name}", total) as advance:
        url = None if arguments.no_mlflow else arguments.mlflow or os.environ.get("MLFLOW_TRACKING_URI")
        if url is None:
            done = register(asked, Store(arguments.registry), advance=advance)
        else:
            with Mlflow(url, os.environ) as server:
                done = register(asked, Store(arguments.registry), _announcing(server, asked), advance)
    _say(done, asked, arguments.format)
    return 0


def check_name(name: Name) -> None:
    """Raises WrongUsage for what models.yaml would not take."""
    for what, text, pattern in (("model", name.model, MODEL), (name.kind, name.name, NAME)):
        if not re.fullmatch(pattern, text, re.ASCII):
            raise WrongUsage(f"{text!r} cannot name a {what}: letters, digits, `.`, `_` and `-`, 64 at most")


def requires(written: list[str]) -> dict[str, Any]:
    """What --require says, as a record has it. Raises WrongUsage."""
    found: dict[str, Any] = {}
    for text in written:
        key, separator, value = text.partition("=")
        if not separator or key not in WrittenRequires.model_fields:
            raise WrongUsage(f"--require {text}: write KEY=VALUE with one of {', '.join(WrittenRequires.model_fields)}")
        found[key] = _required(key, value)
    try:
        WrittenRequires.model_validate({key: value for key, value in found.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise WrongUsage(f"--require {first['loc'][0]}: {first['msg']}") from None
    if "memory_gb" in found:
        memory = found.pop("memory_gb")
        found["memory_bytes"] = None if memory is None else round(memory * GB)
    if "cpu_flags" in found:
        found["cpu_flags"] = tuple(found["cpu_flags"])
    return found


def _required(key: str, value: str) -> Any:
    if key == "cpu_flags":
        return [flag for flag in value.split(",") if flag]
    if key == "cpu":
        return value != "false"
    if not value:
        return None
    try:
        return value if key == "driver" else float(value)
    except ValueError:
        raise WrongUsage(f"--require {key}={value}: write a number") from None


def _announcing(server: Mlflow, asked: Asked) -> Announce:
    def announce(record: Record, sha256: str, artifact: Path) -> str:
        return server.announce(asked.name, record, sha256, artifact, asked.evaluation)

    return announce


def _override(arguments: argparse.Namespace) -> Override | None:
    if arguments.override is None:
        return None
    if not arguments.override.strip() or not arguments.by:
        raise WrongUsage("--override needs a reason, and --by NAME of who answers for it")
    return Override(by=arguments.by, reason=arguments.override.strip())


def _context(artifact: Path) -> int | None:
    """What the checkpoint's own configuration says."""
    try:
        found: Any = json.loads((artifact / "config.json").read_text())
        length = found.get("text_config", found).get("max_position_embeddings")
    except (OSError, ValueError, AttributeError):
        return None
    return length if isinstance(length, int) and length > 0 else None


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        raise WrongUsage("nobody is logged in here; say who registers with --by NAME") from None


def _tollgate() -> str:
    try:
        return version("tollgate")
    except PackageNotFoundError:
        return "from source"


def _say(done: Registered, asked: Asked, form: str) -> None:
    if form == "json":
        print(json.dumps(_as_json(done), indent=2, ensure_ascii=False))
        return
    for line in _lines(done, asked):
        print(line)


def _lines(done: Registered, asked: Asked) -> list[str]:
    record = done.record
    what = "registered" if done.named else "was registered before"
    lines = [f"{record.name} {what}: {record.digest}"]
    where = "is there already, verified" if done.placed.reused else "copied"
    lines.append(f"  artifact   {done.placed.path} ({record.size / 1e6:.1f} MB, {where})")
    if done.placed.repaired:
        lines.append(f"  repaired   {', '.join(done.placed.repaired)}")
    if record.override:
        lines.append(f"  overridden {record.override.by}: {record.override.reason}")
    if done.announced:
        lines.append(f"  MLflow     {done.announced}")
    if done.written:
        changed = "" if done.written.changed else " (as it was)"
        lines.append(f"  written    {done.written.file}:{done.written.line}{changed}")
    if asked.config is None:
        lines.append("  no configuration was written")
    return lines


def _as_json(done: Registered) -> Mapping[str, Any]:
    written = done.written
    return {
        "name": done.record.name,
        "digest": done.record.digest,
        "record": done.sha256,
        "artifact": str(done.placed.path),
        "reused": done.placed.reused,
        "repaired": list(done.placed.repaired),
        "new": done.named,
        "mlflow": done.announced,
        "written": None if written is None else {"file": str(written.file), "line": written.line},
    }
