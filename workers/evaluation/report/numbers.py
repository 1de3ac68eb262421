"""Numbers as people read them; what is not finite is a dash."""

from __future__ import annotations

import math

NONE = "–"
_SPACE = "\u202f"  # between a number and its unit, where no line breaks
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def signed(text: str) -> str:
    """With the minus sign that is as wide as a plus."""
    return text.replace("-", "−")


def number(value: float | None, digits: int = 3) -> str:
    """With so many significant digits: 12,300 · 1.23 · 0.00123 · 1.2·10⁻⁵."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
    exponent = int(power)
    if exponent < -4 or exponent > 14:
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return signed(f"{mantissa}·10{str(exponent).translate(_SUPERSCRIPT)}")
    decimals = max(0, digits - 1 - exponent)
    text = f"{value:,.{decimals}f}"
    return signed(text.rstrip("0").rstrip(".") if "." in text else text)


def size(value: float | None) -> str:
    """Bytes, decimal as the capacity of GPUs is sold: 4.81 MB."""
    if value is None or not math.isfinite(value):
        return NONE
    unit = 0
    while abs(value) >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{number(value)}{_SPACE}{_UNITS[unit]}"


def percent(share: float | None, decimals: int = 1) -> str:
    if share is None or not math.isfinite(share):
        return NONE
    if abs(share) > 1e6:
        return times(share)
    return signed(f"{share * 100:.{decimals}f}{_SPACE}%")


def change(ratio: float | None) -> str:
    """A ratio to the reference as what was gained or lost: +0.42 %, −48 %."""
    if ratio is None or not math.isfinite(ratio):
        return NONE
    loss = (ratio - 1) * 100
    if loss >= 900:
        return times(ratio)
    decimals = 2 if abs(loss) < 2 else 1 if abs(loss) < 10 else 0
    text = f"{loss:+.{decimals}f}"
    return f"±0{_SPACE}%" if float(text) == 0 else signed(f"{text}{_SPACE}%")


def rise(value: float) -> str:
    """What an axis of changes says: 0.5 %, 200 %, −1 %."""
    return f"{number(value * 100, 2)}{_SPACE}%"


def times(ratio: float | None) -> str:
    if ratio is None or not math.isfinite(ratio):
        return NONE
    return f"{ratio:.2f}×" if ratio < 10 else f"{number(ratio, 2 if ratio < 100 else 3)}×"


def points(value: float | None) -> str:
    """A difference in percentage points."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:+.1f}"
    return signed(text) if float(text) else "±0"


def milliseconds(value: float | None) -> str:
    return NONE if value is None or not math.isfinite(value) else f"{number(value)}{_SPACE}ms"


def probability(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return NONE
    return "<0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def spelled(count: int) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    return words[count] if 0 <= count < len(words) else f"{count:,}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """`one gate`, `three gates`, `14 gates`."""
    return f"{spelled(count)} {noun if count == 1 else plural or noun + 's'}"


def listed(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
