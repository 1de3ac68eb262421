"""Regular expressions whose time is bounded: they and what they are matched against come from others.

Python's matcher backtracks, and a pattern like `(a+)+$` takes longer than anybody waits on an answer of thirty letters.
So each match runs in a process of its own, which the kernel ends when it has used its processor time: the same on a
machine that is busy.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys

from workers.errors import WrongUsage
from workers.evaluation.tasks.task import CannotGrade

CPU_SECONDS = 1.0
WITHIN_SECONDS = 120.0  # of anybody's clock, on a machine that has no time for it
MEMORY_BYTES = 1 << 30
LONGEST_PATTERN = 2000

MATCH = """
import json, re, resource, signal, sys
seconds, memory, pattern, text = json.load(sys.stdin)
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
print("found" if re.search(pattern, text) else "not found")
"""


def check(pattern: str) -> None:
    """Raises WrongUsage for what is no regular expression, or a very long one."""
    if len(pattern) > LONGEST_PATTERN:
        raise WrongUsage(f"a pattern of {len(pattern)} characters; write one of at most {LONGEST_PATTERN}")
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise WrongUsage(f"{pattern!r} is no regular expression: {error}") from None


def found(pattern: str, text: str) -> bool:
    """Whether `pattern` matches anywhere in `text`. Raises CannotGrade where it takes too long."""
    asked = json.dumps([CPU_SECONDS, MEMORY_BYTES, pattern, text])
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", MATCH],
            input=asked.encode(),
            capture_output=True,
            check=False,
            timeout=WITHIN_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise _too_long(pattern, text) from None
    if done.returncode == -signal.SIGVTALRM:
        raise _too_long(pattern, text)
    if done.returncode:
        raise CannotGrade(f"the pattern {pattern!r} cannot be matched: {done.stderr.decode(errors='replace')[-200:]}")
    return done.stdout == b"found\n"


def _too_long(pattern: str, text: str) -> CannotGrade:
    return CannotGrade(
        f"the pattern {pattern!r} needs more than {CPU_SECONDS:g} s on an answer of {len(text)} characters; "
        "write it without repetitions inside repetitions"
    )
