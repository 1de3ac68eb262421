"""The part of a dead engine's log that explains its death. Pure."""

from __future__ import annotations

import re

LINES = 12
# `ValueError: …` or `torch.cuda.OutOfMemoryError: …`, at the start of a line or after a log prefix.
CAUSE = re.compile(r"(?:^|\s)(?:\w+\.)*\w*(?:Error|Exception): \S")


def last_words(log: str, lines: int = LINES) -> list[str]:
    """The last lines, led by the first error when that is further up.

    Engines report one failure once per process, each blaming the one below it: the first is the cause.
    """
    said = log.splitlines()
    end = said[-lines:]
    cause = next((line for line in said if CAUSE.search(line) and "WARNING" not in line), None)
    return end if cause is None or cause in end else [cause, "…", *end[2:]]
