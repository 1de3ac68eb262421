"""`python -m workers.demo.broken INT4 OUT`: a broken version of a quantized checkpoint, to see a gate stop it.

It is what a mistake in a converter makes: the two 4-bit weights of each byte are there in each other's place. The files
are whole and of the right shapes, vLLM loads them without a word, and the answers are nonsense. The manifest says what
it is: recipe `broken`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import BinaryIO

from workers.directories import replaced
from workers.errors import WorkerToolError, WrongUsage
from workers.quantization.checks import check_output
from workers.quantization.manifest import MANIFEST, is_manifest, read_manifest
from workers.weight_files import read_header

RECIPE = "broken"
WEIGHTS = "model.safetensors"
PACKED = ".weight_packed"
PIECE = 2**20  # bytes
SWAPPED = bytes(byte >> 4 | (byte & 15) << 4 for byte in range(256))


def break_artifact(artifact: Path, out: Path) -> None:
    """Raises WorkerToolError where `artifact` is no 4-bit version in one file, or `out` is something else's."""
    manifest = read_manifest(artifact)
    packed = [tensor for tensor in read_header(artifact / WEIGHTS) if tensor.name.endswith(PACKED)]
    if manifest.quantization != "w4a16" or not packed:
        raise WrongUsage(f"{artifact} is not a 4-bit version; make one: tollgate-worker quantize --recipe w4a16-gptq")
    check_output(out, artifact, force=is_manifest(out))
    with replaced(out) as directory:
        shutil.copytree(artifact, directory, dirs_exist_ok=True)
        with (directory / WEIGHTS).open("r+b") as file:
            for tensor in packed:
                _swap(file, tensor.start, tensor.end)
        manifest.model_copy(update={"recipe": RECIPE}).write(directory)


def is_current(artifact: Path, out: Path) -> bool:
    """Whether `out` is the broken version of exactly this artifact."""
    try:
        wanted = read_manifest(artifact).model_copy(update={"recipe": RECIPE}).model_dump(mode="json")
        return json.loads((out / MANIFEST).read_text()) == wanted
    except (OSError, ValueError, WorkerToolError):
        return False


def _swap(file: BinaryIO, start: int, end: int) -> None:
    for place in range(start, end, PIECE):
        file.seek(place)
        content = file.read(min(PIECE, end - place))
        file.seek(place)
        file.write(content.translate(SWAPPED))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path, metavar="INT4", help="what `quantize --recipe w4a16-gptq` made")
    parser.add_argument("out", type=Path, metavar="OUT", help="where the broken version goes")
    arguments = parser.parse_args()
    try:
        if not is_current(arguments.artifact, arguments.out):
            break_artifact(arguments.artifact, arguments.out)
    except WorkerToolError as problem:
        print(problem, file=sys.stderr)
        return problem.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
