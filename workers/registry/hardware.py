"""What a machine has, what a version asks for, and what is missing."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.table import Requires

QUERY = (
    "nvidia-smi",
    "--query-gpu=index,uuid,name,compute_cap,driver_version,memory.total",
    "--format=csv,noheader,nounits",
)
ANSWERS_WITHIN = 20.0  # seconds: a driver that hangs is as good as none
MIB = 2**20
GB = 10**9


@dataclass(frozen=True, slots=True)
class Gpu:
    index: str
    uuid: str
    name: str
    capability: tuple[int, int]
    driver: tuple[int, ...]
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Machine:
    """`gpus` None where no NVIDIA driver answers."""

    cpu_flags: frozenset[str]
    memory_bytes: int
    gpus: tuple[Gpu, ...] | None


def here() -> Machine:
    """This machine. Takes up to `ANSWERS_WITHIN`; what cannot be known counts as not there."""
    return Machine(
        cpu_flags(_text("/proc/cpuinfo")),
        min([memory_bytes(_text("/proc/meminfo")), *cgroup_bytes(_text("/sys/fs/cgroup/memory.max"))]),
        _gpus(),
    )


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """Of the first processor, as x86 (`flags`) or ARM (`Features`) lists them."""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()


def memory_bytes(meminfo: str) -> int:
    found = re.search(r"^MemTotal:\s*(\d+) kB$", meminfo, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def cgroup_bytes(memory_max: str) -> list[int]:
    """What a container may use, where it has a bound."""
    return [int(memory_max)] if memory_max.strip().isdigit() else []


def gpus(table: str) -> tuple[Gpu, ...]:
    """The rows of nvidia-smi; one that does not say what is asked for is left out."""
    found: list[Gpu] = []
    for line in table.splitlines():
        fields = [field.strip() for field in line.split(",")]
        try:
            index, uuid, name, capability, driver, memory = fields
            major, minor = capability.split(".")
            found.append(Gpu(index, uuid, name, (int(major), int(minor)), version(driver), int(float(memory) * MIB)))
        except ValueError:
            continue
    return tuple(found)


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def visible(found: tuple[Gpu, ...], environ: Mapping[str, str]) -> tuple[Gpu, ...]:
    """Those that CUDA_VISIBLE_DEVICES leaves, by number or by the beginning of their id; all where it names others."""
    named = environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return found
    words = [word.strip() for word in named.split(",") if word.strip()]
    chosen = [
        gpu for word in words for gpu in found if gpu.index == word or (gpu.uuid.startswith(word) and len(word) > 4)
    ]
    return tuple(chosen) if len(chosen) == len(words) else found


def unmet(requires: Requires, machine: Machine, *, gpus: int, environ: Mapping[str, str]) -> list[str]:
    """What the machine lacks, each with what to do; empty where nothing is missing. `gpus` is how many of its GPUs a
    worker takes, 0 for one on the CPU."""
    if not gpus:
        return _unmet_by_cpu(requires, machine)
    wanted = requires.compute_capability or requires.driver or requires.memory_bytes
    if not wanted:
        return []
    if not machine.gpus:
        return ["a GPU, and no NVIDIA driver answers here (nvidia-smi); start it on a machine that has one"]
    return _unmet_by_gpus(requires, visible(machine.gpus, environ)[:gpus], gpus)


def _unmet_by_cpu(requires: Requires, machine: Machine) -> list[str]:
    missing: list[str] = []
    if not requires.cpu:
        missing.append("a GPU: no CPU kernel takes its format; give the worker a `gpu`, or serve another version")
    lacking = [flag for flag in requires.cpu_flags if flag not in machine.cpu_flags]
    if lacking:
        missing.append(
            f"the processor features {', '.join(lacking)}, which /proc/cpuinfo does not list; start it on a processor"
            " that has them, or serve another version"
        )
    if requires.memory_bytes and requires.memory_bytes > machine.memory_bytes:
        missing.append(_memory(requires.memory_bytes, machine.memory_bytes, "this machine or container has"))
    return missing


def _unmet_by_gpus(requires: Requires, chosen: tuple[Gpu, ...], gpus: int) -> list[str]:
    missing: list[str] = []
    least = requires.compute_capability
    weak = [gpu for gpu in chosen if least and gpu.capability < least]
    if least and weak:
        have = ", ".join(f"{gpu.name} ({gpu.capability[0]}.{gpu.capability[1]})" for gpu in weak)
        missing.append(
            f"compute capability {least[0]}.{least[1]} or later, and there is {have}; start it on a newer GPU, or serve"
            " another version"
        )
    if requires.driver and chosen and chosen[0].driver < requires.driver:
        missing.append(
            f"NVIDIA driver {_dotted(requires.driver)} or later, and there is {_dotted(chosen[0].driver)};"
            " update the driver"
        )
    if len(chosen) < gpus:
        missing.append(f"{gpus} GPUs, and there are {len(chosen)}; lower the worker's `gpus`")
    total = sum(gpu.memory_bytes for gpu in chosen)
    if requires.memory_bytes and requires.memory_bytes > total:
        missing.append(_memory(requires.memory_bytes, total, "its GPUs have"))
    return missing


def _memory(needed: int, there: int, who: str) -> str:
    return (
        f"{needed / GB:.3g} GB for its weights alone, and {who} {there / GB:.3g} GB; give it more, or serve a"
        " version of fewer bits"
    )


def _dotted(parts: tuple[int, ...]) -> str:
    return ".".join(map(str, parts))


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _gpus() -> tuple[Gpu, ...] | None:
    try:
        said = subprocess.run(QUERY, capture_output=True, text=True, timeout=ANSWERS_WITHIN, check=False)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return gpus(said.stdout) if said.returncode == 0 else None
