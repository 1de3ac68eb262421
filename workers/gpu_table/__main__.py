"""`python -m workers.gpu_table`: fill the table FP16, FP8, INT8, INT4 for one model on one GPU."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid

from workers.errors import WorkerToolError, WrongUsage
from workers.evaluation.result import FILE, CannotRead, Evaluation, read
from workers.gpu_table import device as devices
from workers.gpu_table.rows import Plan, Row, chosen
from workers.gpu_table.table import HEADINGS, Measured, as_json, cells, conditions, markdown, published_cells
from workers.quantization.checks import check_base, longest_context
from workers.registry.digest import digest_of_artifact, hash_file

DONE, PROBLEM, INTERRUPTED = 0, 1, 130
LONGEST = 4096  # tokens; room for the whole context of some models is more than a GPU has
Command = Callable[[Sequence[str], devices.Device], int]  # a tollgate-worker command's words; its exit status
EPILOG = """\
examples:
  python -m workers.gpu_table --model /models/llama-7b --calibration wiki.txt --text held-out.txt
  python -m workers.gpu_table --model var/models/scribe --device cpu --quick

Needs no network: the model is a directory. On a machine with a GPU name the environments that can use it,
TOLLGATE_ENGINE_PYTHON (vLLM for CUDA) and TOLLGATE_QUANTIZE_PYTHON (llmcompressor, torch for CUDA). A row that is done
stays done: run it again after an interruption, with the same arguments. OUT has table.md and table.json.
Exit status: 0 all rows measured, 1 one failed, 2 wrong usage (no GPU, too little memory).
"""


def tollgate_worker(words: Sequence[str], device: devices.Device) -> int:
    print(f"$ tollgate-worker {' '.join(words)}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "workers.cli", *words]
    return subprocess.run(
        command, env=devices.environment(device), stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False
    ).returncode


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workers.gpu_table",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, type=Path, metavar="DIR", help="the unquantized checkpoint")
    parser.add_argument("--out", type=Path, default=Path("var/gpu-table"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto", help="auto is a GPU, too")
    parser.add_argument("--rows", default="fp16,fp8,int8,int4", metavar="NAMES", help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="less of everything, to see that it works")
    parser.add_argument("--text", type=Path, metavar="FILE", help="held-out text for perplexity and divergence")
    parser.add_argument("--calibration", type=Path, metavar="PATH", help="for int8 and int4")
    parser.add_argument("--samples", type=int, metavar="N", help="calibration samples")
    parser.add_argument("--context", type=int, metavar="TOKENS", help=f"default: the model's, {LONGEST} at most")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="what is printed at the end")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    try:
        return run(parser().parse_args(argv))
    except WorkerToolError as problem:
        print(f"gpu_table: {problem}", file=sys.stderr)
        return problem.exit_code
    except KeyboardInterrupt:
        print("stopped; the rows that are done stay, run it again for the others", file=sys.stderr)
        return INTERRUPTED


def run(arguments: argparse.Namespace, command: Command = tollgate_worker) -> int:
    rows = chosen(arguments.rows)
    check_base(arguments.model)
    plan = Plan(
        model=arguments.model,
        out=arguments.out,
        quick=arguments.quick,
        text=arguments.text,
        samples=arguments.samples,
        calibration=arguments.calibration,
        context=arguments.context or min(longest_context(arguments.model) or LONGEST, LONGEST),
    )
    for path in (plan.text, plan.calibration):
        if path is not None and not path.exists():
            raise WrongUsage(f"{path} is not there")
    device = devices.find(arguments.device)
    devices.check_room(plan.model, rows, device, plan.out)
    devices.check_engine(device, Path.cwd())
    plan.evaluation(rows[0]).parent.mkdir(parents=True, exist_ok=True)
    reference = digest_of_artifact(plan.model)
    measured = [measure(plan, row, reference, device, command) for row in rows]
    remarks = devices.remarks(rows, device)
    if plan.quick:
        remarks.append("measured with --quick: less of everything, to see that it works")
    found = as_json(plan.model.resolve().name, measured, remarks)
    (plan.out / "table.json").write_text(json.dumps(found, indent=2) + "\n")
    (plan.out / "table.md").write_text(markdown(plan.model.resolve().name, measured, remarks))
    if arguments.format == "json":
        print(json.dumps(found, indent=2))
    else:
        show(measured, remarks)
    return PROBLEM if any(one.failed for one in measured) else DONE


def measure(plan: Plan, row: Row, reference: str, device: devices.Device, command: Command) -> Measured:
    """The row as it was measured before, or now. What fails in one row leaves the others."""
    if (kept := current(plan, row, reference, device)) is not None:
        print(f"{row.name}: measured before", file=sys.stderr)
        return Measured(row, kept)
    plan.note(row).unlink(missing_ok=True)
    quantize = plan.quantize(row)
    if quantize is not None and (status := command(quantize, device)):
        return Measured(row, None, f"tollgate-worker quantize ended with status {status}, see what it said")
    status = command(plan.evaluate(row), device)
    if status not in (DONE, PROBLEM):  # 1 also says that a gate was not passed, which is for others to judge
        return Measured(row, None, f"tollgate-worker evaluate ended with status {status}, see what it said")
    try:
        found = read(plan.evaluation(row))
    except CannotRead as error:
        return Measured(row, None, str(error))
    plan.note(row).write_text(_asked(plan, row, device))
    return Measured(row, found)


def current(plan: Plan, row: Row, reference: str, device: devices.Device) -> Evaluation | None:
    """What was measured before with the same arguments on the same device, of the same bytes."""
    try:
        if plan.note(row).read_text() != _asked(plan, row, device):
            return None
        found = read(plan.evaluation(row) / FILE)
        same = found.reference.digest == reference and found.candidate.digest == digest_of_artifact(
            plan.checkpoint(row)
        )
        return found if same else None
    except (OSError, WorkerToolError):
        return None


def _asked(plan: Plan, row: Row, device: devices.Device) -> str:
    inputs = {str(path): _digest(path) for path in (plan.text, plan.calibration) if path is not None}
    commands = {"quantize": plan.quantize(row), "evaluate": plan.evaluate(row)}
    return json.dumps({**commands, "inputs": inputs, "device": device.name}, indent=2) + "\n"


def _digest(path: Path) -> str:
    return digest_of_artifact(path) if path.is_dir() else hash_file(path).sha256


def show(measured: Sequence[Measured], remarks: Sequence[str]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 200)
    rows = [one.row for one in measured]
    for title, written in (
        (conditions(measured) or "nothing was measured", cells(measured)),
        ("published for LLaMA-7B on an A100: another model, device and text", published_cells(rows)),
    ):
        grid = Grid(*HEADINGS, title=title)
        for cell in written:
            grid.add_row(*cell)
        console.print(grid)
    for remark in remarks:
        console.print(f"- {remark}")
    for one in measured:
        if one.failed is not None:
            console.print(f"- {one.row.name} failed: {one.failed}")


if __name__ == "__main__":
    sys.exit(main())
