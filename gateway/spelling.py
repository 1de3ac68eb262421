"""Pieces of JSON as the hot path writes them. What it says of every request it puts together of bytes, most of them
kept: a dict of 25 fields takes as long to make as that, and to be written as long again."""

from __future__ import annotations

from typing import Final

import orjson

dumps: Final = orjson.dumps  # bound once, as the clocks are

MOST_TEXTS: Final = 16_384  # that are kept: names of the configuration mostly, but also what clients call things
MOST_CHARS: Final = 256  # of one that is
_EXACT: Final = 10**15  # up to which all decimals of 15 digits are floats of their own
_SMALL: Final = tuple([b"%d" % number for number in range(1000)])
_PADDED: Final = tuple([b"%03d" % number for number in range(1000)])
_FRACTIONS: Final = tuple([digits.rstrip(b"0") or b"0" for digits in _PADDED])  # after the point
_texts: Final[dict[str, bytes]] = {}


class _Second:
    """The latest that was written: most requests have it in common with the one before."""

    __slots__ = ("number", "text")

    def __init__(self) -> None:
        self.number = 0
        self.text = b"0"


_second: Final = _Second()


def quoted(text: str) -> bytes:
    """A string. Most are written again and again, and are kept."""
    found = _texts.get(text)
    if found is None:
        found = dumps(text)
        if len(text) <= MOST_CHARS:
            if len(_texts) >= MOST_TEXTS:
                _texts.clear()
            _texts[text] = found
    return found


def digits(number: int) -> bytes:
    """An integer; a small one without making it."""
    return _SMALL[number] if 0 <= number < 1000 else b"%d" % number


def thousandths(count: int) -> bytes:
    """`count / 1000` as JSON has that float."""
    if 0 <= count < _EXACT:
        return b"%b.%b" % (digits(count // 1000), _FRACTIONS[count % 1000])
    return dumps(count / 1000)


def billionths(count: int) -> bytes:
    """`count / 10**9` with nine digits after the point, for what is not negative."""
    return b"%b.%b%b%b" % (
        digits(count // 1_000_000_000),
        _PADDED[count // 1_000_000 % 1000],
        _PADDED[count // 1000 % 1000],
        _PADDED[count % 1000],
    )


def flag(value: bool) -> bytes:
    return b"true" if value else b"false"


def _seconds(number: int) -> bytes:
    latest = _second
    if latest.number != number:
        latest.number, latest.text = number, b"%d" % number
    return latest.text


def time_in_seconds(milliseconds: int) -> bytes:
    """A Unix time in seconds, as JSON has that float; `thousandths` in half the time."""
    if not 0 <= milliseconds < _EXACT:
        return dumps(milliseconds / 1000)
    return b"%b.%b" % (_seconds(milliseconds // 1000), _FRACTIONS[milliseconds % 1000])


def time_in_milliseconds(milliseconds: int) -> bytes:
    if milliseconds < 1000:
        return b"%d" % milliseconds
    return b"%b%b" % (_seconds(milliseconds // 1000), _PADDED[milliseconds % 1000])
