"""`tollgate-worker plan`: which model, quantization and GPUs fit, what they would serve, and what it would cost."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from workers.arguments import at_least_one, positive_number
from workers.capacity import table
from workers.capacity.architecture import Model
from workers.capacity.checkpoint import read_model
from workers.capacity.gpus import TABLE, Gpu, find, of_memory
from workers.capacity.memory import UTILIZATION, Settings
from workers.capacity.options import DEFAULT_CONTEXT, Question
from workers.capacity.parameter_count import from_count, is_count
from workers.capacity.planning import plan
from workers.capacity.prices import fleet_gpus, with_prices
from workers.capacity.quantizations import LEAST_MIXED_BITS, MIXED_BITS, MOST_MIXED_BITS, NAMES
from workers.capacity.serving import Bounds, Load
from workers.capacity.units import bytes_of, seconds_of, size
from workers.errors import WrongUsage

if TYPE_CHECKING:
    from workers.cli import Subparsers

DONE, PROBLEM = 0, 1
SPLITS = (1, 2, 4, 8)
PROMPT_TOKENS, OUTPUT_TOKENS = 512, 128

EPILOG = f"""\
A model is a checkpoint directory (exact: its safetensors headers are read), a config.json, or a number of parameters
(7B, 350M, 8x7B), with as much of its shape as is known: 7B,layers=32,kv_heads=8. A quantized checkpoint is planned as
it is. GPUs: {", ".join(TABLE)}; another one by its --memory alone.

examples:
  tollgate-worker plan 7B --memory 48GB
  tollgate-worker plan 70B --gpu h100,h200,l40s --requests-per-second 5 --prompt-tokens 1500 --output-tokens 300
  tollgate-worker plan 8x7B 13B --gpu l40s --price l40s=0.85 --ttft 500ms --time-per-token 40ms
  tollgate-worker plan var/models/scribe --gpu cpu --kv-cache-memory 128MiB --format json

Weights, cache and concurrency are what vLLM allocates; times are a roofline estimate from data sheets: compare with
them, then measure with `tollgate-worker evaluate`. Prices are the fleet's `gpus:` where it has them.
Exit status: 0 something fits, 1 nothing does, 2 wrong usage.
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "plan",
        help="say which model, quantization and GPUs fit a load, and at what cost",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="a directory, a config.json, or a size such as 7B")
    where = parser.add_argument_group("where it is to run")
    where.add_argument("--gpu", metavar="NAME,…", help="default: all that there is data of, without the CPU")
    where.add_argument("--memory", metavar="SIZE", help="of one GPU: 48GB, 44.5GiB; without --gpu of any that has it")
    where.add_argument("--tensor-parallel", metavar="N,…", help="GPUs per replica; default: 1,2,4,8")
    where.add_argument("--price", action="append", default=[], metavar="NAME=USD", help="of an hour of one GPU")
    where.add_argument(
        "--config", type=Path, metavar="DIR", help="a fleet whose `gpus:` have prices; default: router_config"
    )
    load = parser.add_argument_group("what is asked of it")
    load.add_argument("--requests-per-second", type=positive_number, metavar="N", help="default: as many as one can do")
    load.add_argument("--prompt-tokens", type=at_least_one, metavar="N", help=f"default: {PROMPT_TOKENS}")
    load.add_argument("--output-tokens", type=at_least_one, metavar="N", help=f"default: {OUTPUT_TOKENS}")
    load.add_argument(
        "--context",
        type=at_least_one,
        metavar="N",
        help=f"longest request; default: {DEFAULT_CONTEXT}, or what the model or the load has",
    )
    load.add_argument("--ttft", metavar="TIME", help="bound on the mean time to the first token: 500ms")
    load.add_argument("--time-per-token", metavar="TIME", help="bound on the mean time between tokens: 50ms")
    engine = parser.add_argument_group("how the engine is started")
    engine.add_argument("--quantization", metavar="NAME,…", help=f"default: {','.join(NAMES)}")
    engine.add_argument(
        "--bits", type=_bits, default=MIXED_BITS, metavar="N", help="mixed: per linear weight; default: %(default)g"
    )
    engine.add_argument("--kv-cache-dtype", choices=("auto", "fp8"), default="auto", help="default: %(default)s")
    engine.add_argument("--kv-cache-memory", metavar="SIZE", help="vLLM's --kv-cache-memory-bytes: then exactly that")
    engine.add_argument("--block-size", type=at_least_one, metavar="N", help="tokens; default: 16, on a CPU 128")
    engine.add_argument("--max-num-seqs", type=at_least_one, metavar="N", help="default: as vLLM chooses")
    engine.add_argument(
        "--memory-utilization", type=_share, default=UTILIZATION, metavar="SHARE", help="default: %(default)s"
    )
    parser.add_argument("--all", action="store_true", help="every combination, also those that cost more")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="default: %(default)s")


def run(arguments: argparse.Namespace) -> int:
    found = plan(question_of(arguments))
    if arguments.format == "json":
        print(table.to_json(found))
    else:
        console = Console(width=None if sys.stdout.isatty() else table.WIDE, markup=False, highlight=False)
        table.write_table(found, console, everything=arguments.all)
    return DONE if found.possible else PROBLEM


def question_of(arguments: argparse.Namespace) -> Question:
    """What the command line asks. Raises WrongUsage."""
    models = [model_of(text) for text in arguments.models]
    if twice := {model.name for model in models if [other.name for other in models].count(model.name) > 1}:
        raise WrongUsage(f"two models are called {min(twice)}; plan them one by one")
    question = Question(
        models=models,
        gpus=_gpus(arguments),
        quantizations=_quantizations(arguments.quantization),
        tensor_parallel=_splits(arguments.tensor_parallel),
        load=Load(
            arguments.prompt_tokens or PROMPT_TOKENS,
            arguments.output_tokens or OUTPUT_TOKENS,
            arguments.requests_per_second,
        ),
        context=arguments.context,
        bounds=Bounds(
            None if arguments.ttft is None else seconds_of(arguments.ttft),
            None if arguments.time_per_token is None else seconds_of(arguments.time_per_token),
        ),
        settings=Settings(
            utilization=arguments.memory_utilization,
            kv_cache_bytes=None if arguments.kv_cache_memory is None else bytes_of(arguments.kv_cache_memory),
            kv_cache_bits=8 if arguments.kv_cache_dtype == "fp8" else None,
            block_tokens=arguments.block_size,
            max_requests=arguments.max_num_seqs,
            mixed_bits=arguments.bits,
        ),
    )
    for model in models:
        question.context_of(model)  # refused before anything is worked out
    return question


def model_of(text: str) -> Model:
    """From the disk where there is something of that name, else from its size."""
    path = Path(text)
    if is_count(text) and not path.exists():
        return from_count(text)
    if not path.exists() and "/" not in text and not text.endswith(".json"):
        raise WrongUsage(f"`{text}` is neither a model directory nor a size; write for example var/models/scribe or 7B")
    return read_model(path)


def _gpus(arguments: argparse.Namespace) -> Sequence[Gpu]:
    fleet = fleet_gpus(arguments.config)
    memory = None if arguments.memory is None else bytes_of(arguments.memory)
    if arguments.gpu is None and memory is not None:
        chosen = [of_memory(memory, size(memory))]
    elif arguments.gpu is None:
        chosen = [gpu for gpu in TABLE.values() if not gpu.is_cpu]
    else:
        named = [find(name, fleet.others) for name in _list(arguments.gpu, "--gpu")]
        chosen = list({gpu.name: gpu for gpu in named}.values())
    if memory is not None and arguments.gpu is not None:
        chosen = [dataclasses.replace(gpu, memory_bytes=memory) for gpu in chosen]
    return with_prices(chosen, fleet.hourly_usd, arguments.price)


def _quantizations(written: str | None) -> Sequence[str]:
    if written is None:
        return NAMES
    names = _list(written, "--quantization")
    if unknown := [name for name in names if name not in NAMES]:
        raise WrongUsage(f"no quantization `{unknown[0]}`; there are: {', '.join(NAMES)}")
    return [name for name in NAMES if name in names]


def _splits(written: str | None) -> Sequence[int]:
    if written is None:
        return SPLITS
    found: set[int] = set()
    for part in _list(written, "--tensor-parallel"):
        if not part.isascii() or not part.isdigit() or not 1 <= int(part[:6]) <= 1024:
            raise WrongUsage(f"--tensor-parallel {part}: write numbers of GPUs, for example 1,2,4")
        found.add(int(part[:6]))
    return sorted(found)


def _list(written: str, flag: str) -> list[str]:
    names = [part.strip() for part in written.split(",")]
    if not all(names):
        raise WrongUsage(f"{flag} `{written}` has an empty name; separate names by single commas")
    return names


def _share(text: str) -> float:
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"`{text}` must be a share above 0 and up to 1, as 0.9 or 90%")
    return number


def _bits(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not LEAST_MIXED_BITS <= number <= MOST_MIXED_BITS:
        raise argparse.ArgumentTypeError(f"`{text}` must be from {LEAST_MIXED_BITS} to {MOST_MIXED_BITS:g}")
    return number
