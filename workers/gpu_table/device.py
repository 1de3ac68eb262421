"""What the table is measured on, and whether the model fits there: asked before anything is loaded."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workers.environments import ENGINE
from workers.errors import WorkerToolError, WrongUsage
from workers.evaluation.engine import tensor_bytes
from workers.gpu_table.rows import Row

MIB, GIB = 2**20, 2**30
QUERY = "--query-gpu=name,memory.total,memory.free,compute_cap,driver_version"
WORKING_BYTES = 2 * GIB  # activations, the engine's own, and a KV cache that 16 short requests fit into
CPU_BYTES = 3 * GIB  # an engine without any model takes half of that
SHARE = 0.9  # of a device's memory that vLLM takes (--gpu-memory-utilization)


@dataclass(frozen=True, slots=True)
class Device:
    """Bytes are of the GPU, or of the machine's memory. `capability` is None for a CPU."""

    name: str
    total_bytes: int
    free_bytes: int
    capability: float | None
    driver: str | None

    @property
    def is_gpu(self) -> bool:
        return self.capability is not None


def find(asked: str) -> Device:
    """`auto` and `cuda` are a GPU, and nothing else will do: figures of a CPU must not be taken for a GPU's. Raises
    WrongUsage."""
    if asked == "cpu":
        return _cpu()
    gpus = gpus_of(_nvidia_smi())
    if not gpus:
        raise WrongUsage(
            "there is no NVIDIA GPU here that nvidia-smi finds; run this where there is one, or add --device cpu to "
            "measure a small model on the processor"
        )
    if len(gpus) > 1:
        raise WrongUsage(
            f"there are {len(gpus)} GPUs; choose one: CUDA_VISIBLE_DEVICES=0 python -m workers.gpu_table …"
        )
    return gpus[0]


def gpus_of(said: str) -> list[Device]:
    """What nvidia-smi says of each GPU, a line each. Pure."""
    found: list[Device] = []
    for line in said.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != 5 or not (parts[1].isdigit() and parts[2].isdigit()):
            continue
        name, total, free, capability, driver = parts
        found.append(Device(name, int(total) * MIB, int(free) * MIB, _number(capability), driver))
    return found


def check_room(model: Path, rows: Sequence[Row], device: Device, out: Path) -> None:
    """Raises WrongUsage where the model as it is, with which all rows are compared, does not fit, or the disk is too
    small for its versions."""
    weights = tensor_bytes(model)
    if not weights:
        raise WrongUsage(f"{model} has no weights (*.safetensors); give the directory of a Hugging Face checkpoint")
    need = weights + CPU_BYTES if not device.is_gpu else round((weights + WORKING_BYTES) / SHARE)
    if need > device.free_bytes:
        raise WrongUsage(
            f"{model} needs {_gb(need)} with what the engine takes, and {device.name} has {_gb(device.free_bytes)} "
            f"free of {_gb(device.total_bytes)}; every version is compared with the model at 16 bits, so choose a "
            "smaller model or a larger device, and end what else uses it"
        )
    copies = sum(row.bits / 16 for row in rows if row.recipe is not None)
    there = next(parent for parent in (out.resolve(), *out.resolve().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if weights * copies * 1.1 > free:
        raise WrongUsage(f"the versions take {_gb(weights * copies)} on the disk, and {there} has {_gb(free)} free")


def check_engine(device: Device, checkout: Path) -> None:
    """Raises WorkerToolError where a GPU is there and the engine environment cannot use it."""
    python = ENGINE.python(checkout)
    if not device.is_gpu:
        return
    asked = [str(python), "-c", "import sys, torch; sys.exit(not torch.cuda.is_available())"]
    if subprocess.run(asked, capture_output=True, check=False, timeout=300).returncode:
        raise WorkerToolError(
            f"the engine environment ({python}) cannot use {device.name}: it was made for CPUs, or for another driver "
            f"than {device.driver}; install vLLM for CUDA in an environment of its own and name its python in "
            f"{ENGINE.override}"
        )


def remarks(rows: Sequence[Row], device: Device) -> list[str]:
    """What the reader of the figures has to know of this device."""
    if device.capability is None:
        return ["measured on a processor: what is fast there says nothing about a GPU"]
    return [
        f"{row.name}: {device.name} has compute capability {device.capability:g}, the engine's {row.name} kernels need "
        f"{row.capability:g}; it runs slower ones"
        for row in rows
        if row.capability > device.capability
    ]


def environment(device: Device) -> dict[str, str]:
    """For the commands: on a processor they are not to find a GPU."""
    return dict(os.environ) if device.is_gpu else {**os.environ, "CUDA_VISIBLE_DEVICES": ""}


def _cpu() -> Device:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    return Device("the processor", pages, free, None, None)


def _nvidia_smi() -> str:
    """Of the GPUs that a process started from here would see."""
    if shutil.which("nvidia-smi") is None or os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return ""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    command = ["nvidia-smi", QUERY, "--format=csv,noheader,nounits", *(("-i", visible) if visible else ())]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
