"""`tollgate-worker demo-models`: put the demo models where the fleet expects them, or train them again from seed."""

from __future__ import annotations

import argparse
import filecmp
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from workers.directories import replaced
from workers.environments import QUANTIZE, become

if TYPE_CHECKING:
    from workers.cli import Subparsers

CHECKPOINTS = Path(__file__).resolve().parent / "demo" / "checkpoints"
EPILOG = """\
examples:
  tollgate-worker demo-models                     unpack the shipped checkpoints into var/models (a second)
  tollgate-worker demo-models --rebuild --out X   train them again from seed, about 20 minutes on 2 cores

A rebuild gives the same bytes on the same Python version, library versions and kind of CPU, and equally good models
elsewhere. It needs the quantization environment (make quantize-env).
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "demo-models",
        help="unpack the demo models, or train them again",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("var/models"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--rebuild", action="store_true", help="train from seed instead of unpacking")


def run(arguments: argparse.Namespace) -> int:
    out: Path = arguments.out
    if arguments.rebuild:
        become(QUANTIZE, "workers.demo.build", ["--out", str(out)], Path.cwd())
    for checkpoint in sorted(CHECKPOINTS.iterdir()):
        target = out / checkpoint.name
        if is_same(checkpoint, target):
            print(f"{target} is up to date", file=sys.stderr)
            continue
        with replaced(target) as directory:
            shutil.copytree(checkpoint, directory, dirs_exist_ok=True)
        print(f"{target} written", file=sys.stderr)
    return 0


def is_same(shipped: Path, target: Path) -> bool:
    """Whether `target` holds exactly the shipped files, byte for byte."""
    names = sorted(path.name for path in shipped.iterdir())
    if not target.is_dir() or sorted(path.name for path in target.iterdir()) != names:
        return False
    _, different, unreadable = filecmp.cmpfiles(shipped, target, names, shallow=False)
    return not different and not unreadable
