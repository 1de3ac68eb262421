"""`tollgate-worker evaluate`: hold a quantized version, or an adapter, against its unquantized reference."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

import yaml

from workers.arguments import at_least_one, positive_number
from workers.directories import replaced
from workers.environments import ENGINE
from workers.errors import WorkerToolError, WrongUsage
from workers.evaluation import baseline, bounds, report, result, texts
from workers.evaluation.amount import FULL, PARTS, QUICK, Amount, Part
from workers.evaluation.assemble import judged
from workers.evaluation.client import Endpoint
from workers.evaluation.conduct import Means, Side, conduct, context_of
from workers.evaluation.layers import layers_of
from workers.evaluation.measured import Kept
from workers.evaluation.progress import progress
from workers.evaluation.result import FILE, Evaluation, Subject
from workers.evaluation.session import Asked
from workers.evaluation.shown import table
from workers.evaluation.subject import UNQUANTIZED_BITS, adapted, examine
from workers.evaluation.tasks.lm_eval import PREFIX
from workers.evaluation.tasks.registry import BUILT_IN, load
from workers.registry.digest import BESIDE

if TYPE_CHECKING:
    from workers.cli import Subparsers

SEED = 20260
DEFAULT_TASK = "demo-cloze"
PASSED, NOT_PASSED = 0, 1

STRICT, LOOSE = bounds.EIGHT_BITS, bounds.FOUR_BITS
EPILOG = f"""\
gates, with their bounds for 8-bit / 4-bit weights:
  kld         {STRICT.kld} / {LOOSE.kld} nats, mean KL divergence from the reference's next-token distributions
  same-top    {STRICT.same_top:.0%} / {LOOSE.same_top:.0%} of positions have the same most probable token
  perplexity  {STRICT.perplexity} / {LOOSE.perplexity} times the reference's
  task        {STRICT.task:g} percentage point lost, and McNemar's test says it is no chance
  others      {", ".join(name for name in bounds.NAMES if name not in ("kld", "same-top", "perplexity", "task"))}
Divergence may reject a version, it never accepts one: without a task measured, nothing passes.

examples:
  tollgate-worker evaluate --candidate var/models/scribe-int8 --reference var/models/scribe --out var/evaluations/int8
  tollgate-worker evaluate --candidate DIR --reference DIR --out DIR --quick --gate perplexity=1.03 --gate kld=off
  tollgate-worker evaluate --candidate-url http://10.0.0.7:8000 --model NAME --reference DIR --out DIR --text FILE
  tollgate-worker evaluate --candidate DIR --reference DIR --out NEW --baseline OLD --tolerance speed=15%
  tollgate-worker evaluate --candidate DIR --adapter DIR --reference DIR --out DIR

The output is {FILE} and a report. Exit status: 0 passed, 1 not passed, 2 wrong usage. Engines run one at a time.
"""


def add_parser(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="hold a quantized version against its reference, through the real engine",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    candidate = parser.add_mutually_exclusive_group(required=True)
    candidate.add_argument("--candidate", type=Path, metavar="DIR", help="the checkpoint to judge")
    candidate.add_argument("--candidate-url", metavar="URL", help="an OpenAI-compatible endpoint that serves it")
    parser.add_argument("--reference", required=True, metavar="DIR|URL", help="what it was made from, unquantized")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where evaluation and report go")
    parser.add_argument("--adapter", type=Path, metavar="DIR", help="a LoRA adapter to judge on the candidate")
    parser.add_argument("--name", help="what the candidate is called in the report (default: its directory's name)")
    parser.add_argument("--model", metavar="NAME", help="the candidate's name at its URL")
    parser.add_argument("--reference-model", metavar="NAME", help="the reference's name at its URL")
    parser.add_argument("--key-env", metavar="NAME", help="environment variable with the key for the URLs")
    parser.add_argument("--bits", type=float, help="of the smallest weights, where files do not say (URLs: default 8)")
    parser.add_argument("--quick", action="store_true", help="less of everything: for demonstrations and builds")
    parser.add_argument(
        "--only", action="append", choices=PARTS, metavar="PART", help=f"only this, repeatable: {', '.join(PARTS)}"
    )
    parser.add_argument("--text", type=Path, metavar="FILE|DIR", help=f"held-out text (default: {texts.BUILT_IN})")
    parser.add_argument(
        "--task",
        action="append",
        metavar="TASK",
        help=f"{', '.join(BUILT_IN)}, NAME.jsonl, {PREFIX}TASK, an entry point; repeatable (default: {DEFAULT_TASK})",
    )
    parser.add_argument(
        "--windows", type=at_least_one, metavar="N", help=f"of text (default: {FULL.windows}, {QUICK.windows} if quick)"
    )
    parser.add_argument(
        "--examples",
        type=at_least_one,
        metavar="N",
        help=f"of each task (default: {FULL.examples}, {QUICK.examples} if quick)",
    )
    parser.add_argument("--context", type=at_least_one, metavar="TOKENS", help="default: the longest that both take")
    parser.add_argument("--seed", type=int, default=SEED, help="picks text, examples, resamples (default: %(default)s)")
    parser.add_argument("--gate", action="append", default=[], metavar="NAME=VALUE", help="a bound, or off; repeatable")
    parser.add_argument("--gates", type=Path, metavar="YAML", help="bounds by name; --gate wins")
    parser.add_argument("--baseline", type=Path, metavar="EVALUATION", help="fail on what was lost since this one")
    parser.add_argument(
        "--tolerance",
        action="append",
        default=[],
        metavar="NAME=SHARE",
        help=f"that may be lost against the baseline, or off; repeatable: {', '.join(baseline.NAMES)}",
    )
    parser.add_argument("--format", choices=("table", "json"), default="table", help="what is printed")
    parser.add_argument("--log-dir", type=Path, default=Path("var/log/evaluate"), metavar="DIR", help="engines' logs")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("var/cache/evaluate"),
        metavar="DIR",
        help="where the reference's measurements are kept for the next candidate (default: %(default)s)",
    )
    parser.add_argument(
        "--engine-arg", action="append", default=[], metavar="ARG", help="for vLLM, repeatable: --engine-arg=--flag=1"
    )
    parser.add_argument(
        "--start-within",
        type=positive_number,
        default=600.0,
        metavar="SECONDS",
        help="for an engine (default: %(default)g)",
    )


def run(arguments: argparse.Namespace) -> int:
    written = _bounds_written(arguments)
    tolerances = baseline.changed(baseline.Tolerances(), bounds.pairs(arguments.tolerance, "--tolerance"))
    before = None if arguments.baseline is None else result.read(arguments.baseline)
    if arguments.tolerance and before is None:
        raise WrongUsage("--tolerance is of a --baseline; give one")
    check_output(arguments.out)
    tasks = load(arguments.task or [DEFAULT_TASK])
    text = texts.built_in() if arguments.text is None else texts.read(arguments.text)

    reference, reference_context = _reference(arguments)
    candidate, bits, candidate_context = _candidate(arguments, reference)
    allowed = bounds.changed(bounds.for_bits(bits, adapter=arguments.adapter is not None), written)
    if candidate.checkpoint or reference.checkpoint:
        ENGINE.python(Path.cwd())  # missing, it is better said now
    asked = Asked(
        parts=cast("Sequence[Part]", arguments.only or PARTS),
        amount=_amount(arguments),
        text=text,
        seed=arguments.seed,
        context=_context(arguments.context, reference_context, candidate_context),
        tasks=tasks,
    )
    means = Means(arguments.log_dir, Kept(arguments.cache), tuple(arguments.engine_arg), arguments.start_within)
    with _ending_on_sigterm(), progress() as shown:
        found = conduct(candidate, reference, asked, means, shown)
        if candidate.checkpoint:
            found = found.model_copy(update={"layers": layers_of(candidate.checkpoint.directory)})
        found = judged(found, allowed, tuple(written), before, tolerances)
        write(found, arguments.out)
    print(found.to_json() if arguments.format == "json" else table(found))
    return PASSED if found.passed else NOT_PASSED


def write(found: Evaluation, out: Path) -> None:
    """The evaluation and its report, completely or not at all. Raises WorkerToolError."""
    try:
        with replaced(out) as directory:
            (directory / FILE).write_text(found.to_json(), encoding="utf-8")
            report.write([found], directory)
    except OSError as error:
        raise WorkerToolError(f"--out {out} cannot be written: {error.strerror or error}") from None


def check_output(out: Path) -> None:
    """Refuse what cannot be written, and to replace anything but an earlier evaluation."""
    if out.exists() and not out.is_dir():
        raise WrongUsage(f"--out {out} is a file; choose a directory")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WrongUsage(f"--out {out} cannot be made: {error.strerror}; choose another directory") from None
    if not os.access(out.parent, os.W_OK):
        raise WrongUsage(f"--out {out}: {out.parent} cannot be written; choose another directory")
    others = [path.name for path in out.iterdir() if path.name not in BESIDE] if out.is_dir() else []
    if others:
        raise WrongUsage(
            f"--out {out} holds more than an evaluation ({others[0]}) and would be replaced; choose a directory of its"
            " own, for example beside the checkpoint"
        )


def _bounds_written(arguments: argparse.Namespace) -> dict[str, object]:
    """What the user wrote of bounds; checked here, so that nothing is measured for a mistake."""
    written: dict[str, object] = {}
    if arguments.gates is not None:
        try:
            found: Any = yaml.safe_load(arguments.gates.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise WrongUsage(f"--gates {arguments.gates} cannot be read: {error}") from None
        if not isinstance(found, dict):
            raise WrongUsage(f"--gates {arguments.gates}: write bounds by name, for example `perplexity: 1.03`")
        written |= {str(name): value for name, value in cast("dict[object, object]", found).items()}
    written |= bounds.pairs(arguments.gate, "--gate")
    bounds.changed(bounds.EIGHT_BITS, written)
    return written


def _reference(arguments: argparse.Namespace) -> tuple[Side, int | None]:
    if "://" in arguments.reference:
        return _remote(arguments.reference, arguments.reference_model, arguments.key_env, None)
    if arguments.reference_model:
        raise WrongUsage("--reference-model is for a reference at a URL")
    checkpoint = examine(Path(arguments.reference))
    if checkpoint.bits < UNQUANTIZED_BITS:
        raise WrongUsage(f"--reference {arguments.reference} is quantized itself; give what it was made from")
    return Side(checkpoint.subject, checkpoint), checkpoint.context


def _candidate(arguments: argparse.Namespace, reference: Side) -> tuple[Side, float, int | None]:
    if arguments.candidate_url is not None:
        if arguments.adapter is not None:
            raise WrongUsage("--adapter is for a checkpoint; at a URL an adapter has a name of its own: give --model")
        side, context = _remote(arguments.candidate_url, arguments.model, arguments.key_env, arguments.name)
        return side, arguments.bits or 8.0, context
    if arguments.model:
        raise WrongUsage("--model is for a candidate at a URL; a checkpoint is called by --name")
    parameters = reference.checkpoint.parameters if reference.checkpoint else None
    checkpoint = examine(arguments.candidate, arguments.name, parameters)
    bits = arguments.bits or checkpoint.bits
    if arguments.adapter is None:
        return Side(checkpoint.subject, checkpoint), bits, checkpoint.context
    subject = adapted(checkpoint.subject, arguments.adapter, arguments.name)
    return Side(subject, checkpoint, adapter=arguments.adapter), bits, checkpoint.context


def _remote(url: str, model: str | None, key_env: str | None, name: str | None) -> tuple[Side, int | None]:
    if not url.startswith(("http://", "https://")):
        raise WrongUsage(f"{url} is no URL of an endpoint; write it as http://HOST:PORT")
    key = None if key_env is None else os.environ.get(key_env)
    if key_env is not None and not key:
        raise WrongUsage(f"--key-env {key_env}: the environment has no such variable")
    if model is None:
        raise WrongUsage(f"say by --model or --reference-model what the model is called at {url}")
    endpoint = Endpoint(url, model, key)
    subject = Subject(
        name=name or model,
        artifact=None,
        digest=None,
        recipe=None,
        quantization="unknown",
        weight_bytes=0,
        bits_per_weight=0.0,
        endpoint=url,
    )
    return Side(subject, endpoint=endpoint), context_of(endpoint)


def _amount(arguments: argparse.Namespace) -> Amount:
    amount = QUICK if arguments.quick else FULL
    return replace(amount, windows=arguments.windows or amount.windows, examples=arguments.examples or amount.examples)


def _context(chosen: int | None, *known: int | None) -> int:
    longest = min((one for one in known if one is not None), default=None)
    if chosen is not None and longest is not None and chosen > longest:
        raise WrongUsage(f"--context {chosen} is more than the {longest} tokens that both models take")
    found = chosen or longest
    if found is None:
        raise WrongUsage("no endpoint says how long its context is; say it with --context")
    return found


@contextmanager
def _ending_on_sigterm() -> Generator[None]:
    """What is told to end ends like at Ctrl-C: no engine stays, nothing is half written."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
