"""Text that every database and export takes."""

from __future__ import annotations

import re

_UNKEEPABLE = re.compile("[\x00\ud800-\udfff]")  # NUL, which PostgreSQL has no room for; halves of a surrogate pair
REPLACEMENT = "\ufffd"
_FORMULA = re.compile(r"[=+@\t\r\n]|-(?!\d+(?:\.\d+)?\Z)")  # how one begins; a negative number is none


def keepable(text: str) -> str:
    """What clients say, with U+FFFD for what can not be kept: an odd character must cost nobody a row of the bill."""
    return _UNKEEPABLE.sub(REPLACEMENT, text)


def inert(text: str) -> str:
    """For a cell of CSV: with `'` before what a spreadsheet would take for a formula (OWASP, CSV injection)."""
    return f"'{text}" if _FORMULA.match(text) else text
