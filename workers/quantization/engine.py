"""Whether the engine of this checkout loads what a recipe makes."""

from __future__ import annotations

from pathlib import Path

from workers.environments import ENGINE
from workers.errors import WorkerToolError, WrongUsage

_METHODS = "vllm/model_executor/layers/quantization"


def check_bitsandbytes(checkout: Path) -> None:
    """Raises WrongUsage where the engine environment's vLLM has no loader of bitsandbytes checkpoints, or none is there
    to look at."""
    try:
        python = ENGINE.python(checkout)
    except WorkerToolError as error:
        raise WrongUsage(f"whether the engine loads NF4 cannot be seen: {error}\n{_OTHERWISE}") from None
    found = sorted(python.parent.parent.glob(f"lib/python3*/site-packages/{_METHODS}"))
    if not any((directory / "bitsandbytes.py").is_file() for directory in found):
        raise WrongUsage(f"the vLLM in {python.parent.parent} has no loader of bitsandbytes checkpoints\n{_OTHERWISE}")


_OTHERWISE = (
    "choose w4a16-awq or w4a16-gptq for 4 bits here, or add --for-other-engine to make the version for an engine that"
    " loads NF4, such as transformers"
)
