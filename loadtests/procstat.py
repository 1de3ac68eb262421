"""CPU time and memory of a process and its children, read from /proc."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    cpu_seconds: float  # user and system, living descendants and those already gone
    rss_bytes: int
    own_rss_bytes: int  # without descendants


def usage(pid: int, proc: Path = Path("/proc")) -> Usage:
    """ProcessLookupError when `pid` itself is gone; a child that ends while being read counts as gone."""
    cpu, own = _read(pid, proc)
    rss = own
    for child in descendants(pid, proc):
        try:
            more_cpu, more_rss = _read(child, proc)
        except ProcessLookupError:
            continue
        cpu, rss = cpu + more_cpu, rss + more_rss
    return Usage(cpu, rss, own)


def descendants(pid: int, proc: Path = Path("/proc")) -> list[int]:
    found: list[int] = []
    queue = [pid]
    while queue:
        parent = queue.pop()
        for task in (proc / str(parent)).glob("task/*/children"):
            try:
                children = [int(word) for word in task.read_text().split()]
            except (FileNotFoundError, ProcessLookupError):
                continue
            found += children
            queue += children
    return found


def descriptor_limit() -> int:
    """How many descriptors a process may have open here, once it has asked for all it may."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def raise_descriptor_limit() -> None:
    """For this process and those it starts."""
    limit = descriptor_limit()
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def busy_elsewhere(seconds: float = 1.0, proc: Path = Path("/proc")) -> float:
    """The share of the machine's CPU time that is in use; asked before anything of ours runs."""
    before = _machine_ticks(proc)
    time.sleep(seconds)
    busy, total = (after - then for after, then in zip(_machine_ticks(proc), before, strict=True))
    return busy / total if total else 0.0


def _machine_ticks(proc: Path) -> tuple[int, int]:
    fields = [int(field) for field in (proc / "stat").read_text().splitlines()[0].split()[1:9]]
    idle = fields[3] + fields[4]  # idle and waiting for disks
    return sum(fields) - idle, sum(fields)


def _read(pid: int, proc: Path) -> tuple[float, int]:
    try:
        stat = (proc / str(pid) / "stat").read_text()
        resident = int((proc / str(pid) / "statm").read_text().split()[1])
    except FileNotFoundError:
        raise ProcessLookupError(pid) from None
    fields = stat.rpartition(")")[2].split()  # the name before it may contain anything
    user, system, children_user, children_system = (int(field) for field in fields[11:15])
    return (user + system + children_user + children_system) * TICK, resident * PAGE
