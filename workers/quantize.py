"""`tollgate-worker quantize`: make a quantized version of a checkpoint, completely or not at all."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from workers.environments import QUANTIZE, become
from workers.quantization.checks import check_base, check_output
from workers.quantization.manifest import digest_of, is_current
from workers.quantization.recipes import RECIPES

if TYPE_CHECKING:
    from workers.cli import Subparsers

SEED = 20260
SAMPLES = 32
EPILOG = (
    "recipes:\n"
    + "\n".join(f"  {recipe.name:<12} {recipe.summary}" for recipe in RECIPES.values())
    + """

examples:
  tollgate-worker quantize var/models/scribe --recipe fp8 --out var/models/scribe-fp8
  tollgate-worker quantize var/models/scribe --recipe w4a16-gptq --out var/models/scribe-int4 --if-needed

Runs in the quantization environment (make quantize-env). The output holds a manifest.json that says how it was made.
"""
)


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "quantize",
        help="make a quantized version of a checkpoint",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("base", type=Path, metavar="MODEL_DIR", help="the checkpoint to quantize")
    parser.add_argument("--recipe", required=True, choices=list(RECIPES), help="what to make of it, see below")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the quantized checkpoint goes")
    parser.add_argument("--samples", type=_positive, default=SAMPLES, help="calibration samples (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="picks the calibration samples (default: %(default)s)")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--force", action="store_true", help="replace DIR if it exists")
    existing.add_argument(
        "--if-needed", action="store_true", help="do nothing if DIR was made from the same base this way"
    )


def run(arguments: argparse.Namespace) -> int:
    base: Path = arguments.base
    out: Path = arguments.out
    check_base(base)
    check_output(out, base, arguments.force or arguments.if_needed)
    if arguments.if_needed and is_current(out, arguments.recipe, digest_of(base), arguments.seed, arguments.samples):
        print(f"{out} is up to date", file=sys.stderr)
        return 0
    become(
        QUANTIZE,
        "workers.quantization.apply",
        [
            *(str(base), "--recipe", arguments.recipe, "--out", str(out)),
            *("--samples", str(arguments.samples), "--seed", str(arguments.seed)),
        ],
        Path.cwd(),
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value
