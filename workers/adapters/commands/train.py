"""`tollgate-worker adapter train`: teach a base new answers, as a LoRA adapter; completely or not at all."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.fleet.adapter_check import MOST_RANK
from workers.adapters import dataset
from workers.adapters.base import chosen_targets, read_base
from workers.adapters.peft_config import CONFIG
from workers.arguments import at_least_one, positive_number
from workers.environments import QUANTIZE, become
from workers.errors import WrongUsage
from workers.quantization.checks import check_base

if TYPE_CHECKING:
    from workers.cli import Subparsers

EPILOG = """\
the examples, one JSON object a line:
  {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}
  {"prompt": "…", "completion": "…"}
  {"text": "…"}
Only answers are learnt: assistant messages (not those with "weight": 0) and completions. Of a text, everything is.

examples:
  tollgate-worker adapter train var/models/scribe --data sql.jsonl --out adapters/sql-v1
  tollgate-worker adapter train BASE --data train.jsonl --eval held.jsonl --rank 16 --targets q_proj,v_proj \\
      --epochs 3 --learning-rate 2e-4 --out adapters/support-v2

Without --eval a tenth of the distinct examples is held out, by seed. The loss on what is held out, before and after, is
printed and written into DIR/manifest.json with everything else that made the adapter. The same seed, data, base and
libraries give the same bytes on the same kind of CPU with the same --threads. A GPU is used where torch sees one.
Runs in the quantization environment (make quantize-env). Ctrl-C leaves nothing behind; exit status 0 written,
1 a problem, 2 wrong usage.
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "train",
        help="fine-tune a LoRA adapter on JSONL",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("base", type=Path, metavar="BASE", help="the unquantized checkpoint to adapt")
    parser.add_argument("--data", required=True, type=Path, metavar="FILE", help="what is learnt (JSONL)")
    parser.add_argument("--eval", type=Path, metavar="FILE", help="what is asked before and after (JSONL)")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the adapter goes")
    parser.add_argument("--rank", type=at_least_one, default=8, help=f"1 to {MOST_RANK} (default: %(default)s)")
    parser.add_argument(
        "--alpha", type=at_least_one, help="the adapter's weight times its rank (default: twice the rank)"
    )
    parser.add_argument("--targets", metavar="NAMES", help="layers to adapt, with commas (default: all linear ones)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--epochs", type=positive_number, default=3.0, help="passes over the examples (default: %(default)g)"
    )
    length.add_argument("--steps", type=at_least_one, help="batches, in place of --epochs")
    parser.add_argument("--batch-size", type=at_least_one, default=8, help="examples per step (default: %(default)s)")
    parser.add_argument(
        "--learning-rate", type=positive_number, default=2e-4, help="of AdamW, at most (default: %(default)g)"
    )
    parser.add_argument("--window", type=at_least_one, default=1024, help="tokens of an example (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=20260, help="of the order and the split (default: %(default)s)")
    parser.add_argument(
        "--threads", type=at_least_one, default=2, help="of the CPU; changes the bytes (default: %(default)s)"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: %(default)s")
    parser.add_argument("--force", action="store_true", help="replace DIR if it exists")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="json: the manifest on stdout")


def run(arguments: argparse.Namespace) -> int:
    base: Path = arguments.base
    out: Path = arguments.out
    targets = chosen_targets(read_base(base), arguments.targets.split(",") if arguments.targets else None)
    check_base(base)
    check_output(out, base, arguments.force)
    if arguments.rank > MOST_RANK:
        raise WrongUsage(f"--rank {arguments.rank}: engines take {MOST_RANK} at most")
    dataset.read(arguments.data)
    if arguments.eval is not None:
        dataset.read(arguments.eval)
    handed = [
        *(str(base), "--data", str(arguments.data), "--out", str(out), "--targets", ",".join(targets)),
        *("--rank", str(arguments.rank), "--batch-size", str(arguments.batch_size)),
        *("--learning-rate", repr(arguments.learning_rate), "--window", str(arguments.window)),
        *("--seed", str(arguments.seed), "--threads", str(arguments.threads), "--device", arguments.device),
        *("--format", arguments.format),
        *(("--steps", str(arguments.steps)) if arguments.steps else ("--epochs", repr(arguments.epochs))),
        *(("--alpha", str(arguments.alpha)) if arguments.alpha else ()),
        *(("--eval", str(arguments.eval)) if arguments.eval else ()),
    ]
    become(QUANTIZE, "workers.adapters.train", handed, Path.cwd())


def check_output(out: Path, base: Path, force: bool) -> None:
    """Refuse to write over something that was not asked to be replaced, before hours of training. Raises WrongUsage."""
    if out.resolve() == base.resolve() or base.resolve().is_relative_to(out.resolve()):
        raise WrongUsage(f"--out {out} would overwrite the base; choose another directory")
    if out.resolve().is_relative_to(base.resolve()):
        raise WrongUsage(f"--out {out} is inside the base, and would change its digest; choose a directory beside it")
    if out.exists() and not out.is_dir():
        raise WrongUsage(f"--out {out} is a file; choose a directory")
    if out.is_dir() and any(out.iterdir()) and not (out / CONFIG).is_file():
        raise WrongUsage(f"--out {out} holds something else than an adapter; choose another directory, or empty it")
    if out.exists() and not force:
        raise WrongUsage(f"{out} exists; add --force to replace it")
    there = next(parent for parent in out.resolve().parents if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise WrongUsage(f"--out {out}: {there} is no directory that can be written to; choose another")
