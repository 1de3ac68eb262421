"""Sizes and durations as people write them, and back. Bytes are whole numbers, durations are seconds."""

from __future__ import annotations

import math
import re

from workers.errors import WrongUsage

GB = 10**9
GIB = 2**30

_NUMBER = r"([0-9]{1,15}(?:\.[0-9]{1,9})?)"
_SIZE = re.compile(_NUMBER + r"\s*(B|[KMGT]B|[KMGT]iB)?", re.IGNORECASE)
_DURATION = re.compile(_NUMBER + r"\s*(ms|s|m)")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}


def bytes_of(text: str) -> int:
    """`48GB` (10⁹), `48GiB` (2³⁰), `48` (GB). Raises WrongUsage."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise WrongUsage(f"`{text}` is not a size; write for example 48GB, 44.5GiB or 128MiB")
    unit = (match[2] or "GB").lower()
    base = 1024 if "i" in unit else 1000
    found = int(float(match[1]) * base ** _POWERS[unit.removesuffix("b").removesuffix("i")])
    if not 0 < found < 10**18:
        raise WrongUsage(f"`{text}` is no size that a machine has; write for example 48GB")
    return found


def seconds_of(text: str) -> float:
    """`500ms`, `2s`. Raises WrongUsage."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise WrongUsage(f"`{text}` is not a duration; write for example 500ms or 2s")
    found = float(match[1]) * _SECONDS[match[2]]
    if found <= 0:
        raise WrongUsage(f"`{text}` leaves no time at all; write for example 500ms or 2s")
    return found


def size(count: float) -> str:
    """Of bytes, in decimal units with three digits: 14.0 GB."""
    for unit, power in (("TB", 4), ("GB", 3), ("MB", 2), ("kB", 1)):
        if abs(count) >= 0.9995 * 1000**power:
            return f"{_three_digits(count / 1000**power)} {unit}"
    return f"{count:.0f} B"


def duration(seconds: float) -> str:
    """Milliseconds or seconds with two or three digits: 34 ms, 1.20 s."""
    if seconds < 0.9995:
        return f"{_three_digits(seconds * 1000)} ms"
    return f"{_three_digits(seconds)} s"


def count(number: float) -> str:
    """In thousands and millions with three digits: 52.4k."""
    for unit, power in (("B", 3), ("M", 2), ("k", 1)):
        if abs(number) >= 0.9995 * 1000**power:
            return f"{_three_digits(number / 1000**power)}{unit}"
    return f"{number:.0f}"


def usd(amount: float) -> str:
    """To the cent from a dollar on, with two digits below it."""
    if amount >= 1 or amount == 0:
        return f"${amount:,.2f}"
    return f"${amount:.{max(2, 1 - math.floor(math.log10(amount)))}f}"


def _three_digits(value: float) -> str:
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
