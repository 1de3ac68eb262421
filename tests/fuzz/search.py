"""Looks for cases that break what must hold; what it finds is made small."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.fuzz import answers, requests
from tests.fuzz.mutate import cuts, mutated

CORPUS = Path(__file__).parent / "corpus"
Check = Callable[[asyncio.AbstractEventLoop, bytes, Sequence[Sequence[int]]], None]
TARGETS: dict[str, Check] = {"requests": requests.check, "answers": answers.check}


class Found(NamedTuple):
    case: bytes
    why: str


def corpus(target: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((CORPUS / target).iterdir())}


def search(
    target: str, seed: int, *, cases: int | None = None, seconds: float | None = None, most_found: int = 10
) -> tuple[int, list[Found]]:
    """How many cases were tried, until there were `cases` of them or the time was over, and what was found."""
    random, check, known = Random(seed), TARGETS[target], list(corpus(target).values())
    found: list[Found] = []
    give_up_at = None if seconds is None else time.monotonic() + seconds
    tried = 0
    loop = asyncio.new_event_loop()
    try:
        while (cases is None or tried < cases) and (give_up_at is None or time.monotonic() < give_up_at):
            case = mutated(random, known)
            cutting = cuts(random, len(case))
            tried += 1
            why = broken(loop, check, case, cutting)
            if why is not None:
                small = smaller(loop, check, case, cutting)
                found.append(Found(small, broken(loop, check, small, _every(small)) or why))
                if len(found) >= most_found:
                    break
    finally:
        loop.close()
    return tried, found


def broken(loop: asyncio.AbstractEventLoop, check: Check, case: bytes, cutting: Sequence[int]) -> str | None:
    """Why a case does not hold, None when it does."""
    try:
        check(loop, case, [cutting])
    except Exception as error:  # whatever it is, it is what is looked for
        return f"{type(error).__name__}: {error}"
    return None


def smaller(loop: asyncio.AbstractEventLoop, check: Check, case: bytes, cutting: Sequence[int]) -> bytes:
    """A part of the case that fails as well, where a part does: halves, quarters and so on are left out in turn."""

    def fails(part: bytes) -> bool:
        return broken(loop, check, part, _every(part)) is not None

    if not fails(case):
        return case  # it takes these very cuts
    size = max(1, len(case) // 2)
    while True:
        at, shrunk = 0, False
        while at < len(case):
            part = case[:at] + case[at + size :]
            if fails(part):
                case, shrunk = part, True
            else:
                at += size
        if size == 1 and not shrunk:
            return case
        size = max(1, size // 2)


def keep(target: str, case: bytes) -> Path:
    """Puts a case into the corpus."""
    path = CORPUS / target / f"found-{hashlib.sha256(case).hexdigest()[:12]}"
    path.write_bytes(case)
    return path


def _every(case: bytes) -> list[int]:
    return list(range(1, len(case)))
