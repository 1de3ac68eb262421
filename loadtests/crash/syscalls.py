"""Whole processes, as they are served, killed at their system calls: those of SQLite within a statement among them.

strace counts the calls of the main thread, and kills it before one of them is made.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from loadtests.crash import acts
from loadtests.crash.acts import Stage
from loadtests.crash.rounds import Rounds
from loadtests.crash.story import story

CALLS = "write,pwrite64,pwritev,fsync,fdatasync,ftruncate,fallocate,rename,unlink,rmdir,mkdir,flock,sendto,sendmsg"
TRACED = {"gateway": acts.say, "settler": acts.settle, "gateway and settler": acts.all_of_them}
_CALL = re.compile(r"([a-z0-9]+)\(")


class TracedRounds(Rounds):
    def _watch(self, stage: Stage, file: Path) -> tuple[int, list[str]]:
        """Each call by its name and how many of that name there were by then."""
        status = self._run(stage, "-e", f"trace={CALLS}", "-o", str(file))
        found = [match[1] for line in file.read_text().splitlines() if (match := _CALL.match(line))]
        counts: Counter[str] = Counter()
        crossed: list[str] = []
        for name in found:
            counts[name] += 1
            crossed.append(f"{name} {counts[name]}")
        return status, crossed

    def _die(self, stage: Stage, at: int, crossed: Sequence[str]) -> int:
        name, number = crossed[at - 1].split()
        return self._run(
            stage, "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={number}", "-o", os.devnull
        )

    def _run(self, stage: Stage, *options: str) -> int:
        orders = json.dumps([self._act.name, str(stage.root), stage.ledger, str(self._told_file), self._requests])
        command = ["strace", "-qq", *options, sys.executable, "-m", "loadtests.crash.syscalls", orders]
        status = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, env=os.environ).returncode
        return -signal.SIGKILL if status == 128 + signal.SIGKILL else status


def main() -> int:
    logging.disable(logging.CRITICAL)
    act, root, ledger, told, requests = json.loads(sys.argv[1])
    with Path(told).open("r+b") as file:
        shared = mmap.mmap(file.fileno(), 4_096)
    TRACED[act](acts.stage_of(Path(root), ledger, shared, story(requests)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
