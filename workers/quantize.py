"""`tollgate-worker quantize`: make a quantized version of a checkpoint, completely or not at all."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from workers.arguments import at_least_one
from workers.environments import QUANTIZE, become
from workers.errors import WrongUsage
from workers.quantization import progressive
from workers.quantization.allocation import COST
from workers.quantization.calibration import WINDOW
from workers.quantization.checks import check_base, check_output, longest_context
from workers.quantization.engine import check_bitsandbytes
from workers.quantization.gate import evaluate, interrupt, run_command
from workers.quantization.job import AdapterJob, Job
from workers.quantization.ladder import DEFAULT as LADDER
from workers.quantization.ladder import Steps, parse_ladder
from workers.quantization.lineage import describe
from workers.quantization.lora import read_lora
from workers.quantization.manifest import is_current
from workers.quantization.recipes import RECIPES
from workers.quantization.space import artifact_bytes, bits_per_linear_weight, check_space
from workers.quantization.texts import digest_of_files, files_of
from workers.quantization.weights import bytes_of, check_multiples
from workers.registry.digest import digest_of_artifact
from workers.weight_files import Tensor

if TYPE_CHECKING:
    from workers.cli import Subparsers

SEED = 20260
SAMPLES = 32
THREADS = 2
BITS = 6.0
MERGED = "merged"
EPILOG = (
    "recipes:\n"
    + "\n".join(f"  {recipe.name:<12} {recipe.summary}" for recipe in RECIPES.values())
    + f"""

a ladder's steps have commas between them, alternatives of one step have slashes (default: {LADDER})

examples:
  tollgate-worker quantize var/models/scribe --recipe fp8 --out var/models/scribe-fp8
  tollgate-worker quantize var/models/scribe --recipe w4a16-gptq --out var/models/scribe-int4 --if-needed
  tollgate-worker quantize chat-8b --recipe w4a16-awq --calibration prompts.jsonl --samples 256 --out chat-8b-awq
  tollgate-worker quantize chat-8b --recipe w8a8 --adapter support --merge --out chat-8b-support-int8
  tollgate-worker quantize chat-8b --recipe mixed --bits 5.5 --out chat-8b-mixed
  tollgate-worker quantize chat-8b --recipe progressive --ladder fp8,mixed,w4a16-awq --out chat-8b-small
  tollgate-worker quantize chat-8b --recipe progressive --evaluate-with="--quick --gate kld=0.03" --out chat-8b-small

Runs in the quantization environment (make quantize-env). The output holds a manifest.json that says how it was made.
The same base, data, recipe, seed, threads and libraries give the same files on the same kind of processor.
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
    parser.add_argument("--adapter", type=Path, metavar="DIR", help="a LoRA adapter on the checkpoint")
    fate = parser.add_mutually_exclusive_group()
    fate.add_argument("--merge", action="store_true", help="into the weights, before they are quantized")
    fate.add_argument("--keep", action="store_true", help="as it is, in DIR/adapter of the output")
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="PATH",
        help="text, JSON Lines (`text`, `messages`, or `prompt` and `completion`), Parquet, a saved data set, or a"
        " directory of them (default: a built-in text, for the demo)",
    )
    parser.add_argument(
        "--samples", type=at_least_one, default=SAMPLES, help="calibration samples (default: %(default)s)"
    )
    parser.add_argument("--length", type=at_least_one, default=WINDOW, help="tokens of a sample (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="picks the calibration samples (default: %(default)s)")
    parser.add_argument(
        "--threads",
        type=at_least_one,
        default=THREADS,
        help="of the processor; part of the result (default: %(default)s)",
    )
    parser.add_argument("--bits", type=float, default=BITS, help="mixed: bits per linear weight (default: %(default)s)")
    parser.add_argument("--ladder", default=LADDER, metavar="STEPS", help="progressive: the recipes, see below")
    parser.add_argument(
        "--evaluate-with", default="", metavar="ARGUMENTS", help="progressive: for evaluate, as one text"
    )
    parser.add_argument("--for-other-engine", action="store_true", help="nf4: also if the engine here does not load it")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--force", action="store_true", help="replace DIR if it exists")
    existing.add_argument(
        "--if-needed", action="store_true", help="do nothing if DIR was made from the same base this way"
    )


def run(arguments: argparse.Namespace) -> int:
    """Everything that needs no library is refused here, before the other environment is started."""
    check_output(arguments.out, arguments.base, arguments.force or arguments.if_needed)
    tensors = check_base(arguments.base)
    job = _job(arguments, tensors)
    if job.recipe.method == "ladder":
        return _descend(arguments, job, tensors)
    if arguments.if_needed and is_current(job.out, job.asked):
        print(f"{job.out} is up to date", file=sys.stderr)
        return 0
    _check_recipe(job, tensors, arguments.for_other_engine)
    become(QUANTIZE, "workers.quantization.apply", [job.model_dump_json()], Path.cwd())


def _job(arguments: argparse.Namespace, tensors: list[Tensor]) -> Job:
    context = longest_context(arguments.base)
    if context is not None and arguments.length > context:
        raise WrongUsage(f"--length {arguments.length}: the model reads {context} tokens at most; lower it")
    if not COST[4] <= arguments.bits <= COST[16]:
        raise WrongUsage(f"--bits {arguments.bits}: between {COST[4]} (all layers at 4 bits) and {COST[16]:g} (none)")
    files = files_of(arguments.calibration) if arguments.calibration else []
    return Job(
        recipe_name=arguments.recipe,
        directory=arguments.base,
        out=arguments.out,
        adapter=_adapter(arguments, tensors),
        base=describe(arguments.base),
        calibration=tuple(files),
        calibration_digest=digest_of_files(files) if files else None,
        samples=arguments.samples,
        length=arguments.length,
        seed=arguments.seed,
        threads=arguments.threads,
        bits=arguments.bits,
    )


def _adapter(arguments: argparse.Namespace, tensors: list[Tensor]) -> AdapterJob | None:
    directory: Path | None = arguments.adapter
    if arguments.recipe == MERGED and not (directory and arguments.merge):
        raise WrongUsage(f"--recipe {MERGED} is about an adapter: name it with --adapter DIR --merge")
    if directory is None:
        if arguments.merge or arguments.keep:
            raise WrongUsage("--merge and --keep are about an adapter: name it with --adapter DIR")
        return None
    if not (arguments.merge or arguments.keep):
        raise WrongUsage("--adapter needs --merge (into the weights) or --keep (beside them)")
    adapter = read_lora(directory, tensors)
    digest = digest_of_artifact(directory)
    return AdapterJob(directory=directory, digest=digest, rank=adapter.rank, merge=arguments.merge)


def _check_recipe(job: Job, tensors: list[Tensor], for_other_engine: bool) -> None:
    recipe = job.recipe
    check_multiples(tensors, recipe.multiple, recipe.name)
    if recipe.method == "nf4" and not for_other_engine:
        check_bitsandbytes(Path.cwd())
    merged = bytes_of(tensors) if recipe.method == "nf4" and job.adapter and job.adapter.merge else 0
    check_space(job.out, artifact_bytes(tensors, bits_per_linear_weight(recipe, job.bits)) + merged)


def _descend(arguments: argparse.Namespace, job: Job, tensors: list[Tensor]) -> int:
    steps: Steps = parse_ladder(arguments.ladder)
    asked = json.loads(job.asked.model_dump_json()) | {
        "ladder": arguments.ladder,
        "bits": arguments.bits,
        "evaluate": arguments.evaluate_with,
    }
    if arguments.if_needed and progressive.is_descended(job.out, asked):
        print(f"{job.out} is up to date", file=sys.stderr)
        return 0
    recipes = [RECIPES[name] for step in steps for name in step]
    sizes = [artifact_bytes(tensors, bits_per_linear_weight(recipe, job.bits)) for recipe in recipes]
    sizes += [bytes_of(tensors)] if job.adapter and job.adapter.merge else []
    check_space(job.out, sum(sizes) + max(sizes))
    QUANTIZE.python(Path.cwd())
    signal.signal(signal.SIGTERM, interrupt)

    def make(recipe: str, out: Path) -> int:
        return run_command(_command(arguments, recipe, out))

    gate = evaluate(shlex.split(arguments.evaluate_with))
    merged = MERGED if job.adapter and job.adapter.merge else None
    shipped, tried = progressive.descend(job.directory, job.out, steps, asked, make, gate, merged)
    where = progressive.working_directory(job.out)
    if shipped is None:
        print(f"no step of the ladder passed ({', '.join(rung.recipe for rung in tried)}): serve the base as it is;")
        print(f"evaluations are in {where}")
        return 1
    print(f"{job.out} written ({shipped}), its evaluation is in {where / shipped / 'evaluation'}")
    return 0


def _command(arguments: argparse.Namespace, recipe: str, out: Path) -> list[str]:
    """One rung, by this command itself."""
    adapter = [*("--adapter", str(arguments.adapter)), "--merge" if arguments.merge else "--keep"]
    return [
        *("quantize", str(arguments.base), "--recipe", recipe, "--out", str(out), "--if-needed"),
        *(adapter if arguments.adapter else ()),
        *(("--calibration", str(arguments.calibration)) if arguments.calibration else ()),
        *("--samples", str(arguments.samples), "--length", str(arguments.length), "--seed", str(arguments.seed)),
        *("--threads", str(arguments.threads), "--bits", str(arguments.bits)),
        *(("--for-other-engine",) if arguments.for_other_engine else ()),
    ]
