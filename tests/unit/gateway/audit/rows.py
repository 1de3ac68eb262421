"""Readings, slots and attempts to audit."""

from __future__ import annotations

from typing import Any

from gateway.audit.marks import Mark
from gateway.ledger.audits import Slot
from gateway.ledger.record import Attempt, Label, Line, Reading

LINE = Line("t", "k", "chat.completions", "m", "v", "", "r", "w", "gpu_time")
ENGINE = 1_000.0  # when it started


def reading(at: float, prompt: int = 0, output: int = 0, **other: Any) -> Reading:
    made = Reading(at, "g1", "w", "m", "v", 0, True, 0, 0, 0, 0, 0.0, prompt, output, ENGINE)
    return made._replace(**other)


def mark(at: float, prompt: int = 0, output: int = 0, *, calm: bool = True, started: float = ENGINE) -> Mark:
    return Mark(at, started, prompt, output, calm)


def slot(opened: float, ended: float, prompt: int = 0, output: int = 0, **other: Any) -> Slot:
    return Slot(opened, ended, None, False, 0, prompt, output)._replace(**other)


def attempt(number: int, opened: float, seconds: float, prompt: int, output: int, **other: Any) -> Attempt:
    """Of request `number`; measured unless `estimated`."""
    made = Attempt(
        f"req_{number:028x}", 1, 0, LINE, Label("m"), int(opened), opened, None, seconds, "ok", 200, False, True,
        prompt, 0, output, 7, 9,
    )  # fmt: skip
    return made._replace(**other)


def broken_off(number: int, opened: float, seconds: float, prompt: int, output: int, **other: Any) -> Attempt:
    return attempt(number, opened, seconds, prompt, output, **{"outcome": "aborted", "estimated": True, **other})
