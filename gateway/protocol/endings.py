"""The usage of answers that end alike, read at its place instead of parsed.

From `"usage"` on, what one engine writes differs from one answer to the next in nothing but a few numbers. Parsing that
part of an ordinary chat completion takes five times as long as comparing it with the words of the last.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.protocol.usage import PARSED_WHOLE_BYTES, Usage, find_usage, json_object, read_usage
from gateway.tuples import made

MAX_ENDINGS: Final = 4  # kept: endpoints of one engine end their answers differently
MAX_LEARNT: Final = 64  # ever, of one engine: what ends in other words each time is not worth it
MAX_BYTES: Final = 2048
MAX_DIGITS: Final = 12  # so that none is above `MAX_COUNT`

_BACKSLASH: Final = 92  # bytes, written as numbers: an `ord` is no constant to the compiler
_0: Final = 48
_9: Final = 57
# A number that is the whole value of a key, as JSON writes it. In a text without escapes that is told by what stands
# around it; inside a string it does no harm.
_NUMBER: Final = re.compile(rb'(?:(?<=":)|(?<=": ))(?:0|[1-9][0-9]{0,11})(?=[,}])')


class Ending:
    """The words from `"usage"` to the end, and which of the numbers between them are the counts."""

    __slots__ = ("_cached", "_output", "_prompt", "_words")

    def __init__(self, words: list[bytes], prompt: int, cached: int, output: int) -> None:
        """A count is the place of its number, -1 where the engine does not give it."""
        self._words = words
        self._prompt = prompt
        self._cached = cached
        self._output = output

    def read(self, body: bytes) -> Usage | None:
        """The usage of an answer that ends so; None of one that does not."""
        words = self._words
        place = len(words) - 1
        prompt = cached = output = 0
        end = len(body)
        while True:
            word = words[place]
            start = end - len(word)
            if start < 1 or body[start:end] != word:
                return None
            if place == 0:  # the first quote of the key: not an escaped one
                return None if body[start - 1] == _BACKSLASH else made(Usage, (prompt, min(cached, prompt), output))
            place -= 1
            end = start
            number, unit = 0, 1
            digit = body[end - 1]
            while _0 <= digit <= _9:  # before the first byte comes the last one, which is of a word
                end -= 1
                number += unit * (digit - _0)
                unit *= 10
                digit = body[end - 1]
            digits = start - end
            if not 0 < digits <= MAX_DIGITS or (digits > 1 and body[end] == _0):
                return None
            if place == self._prompt:
                prompt = number
            elif place == self._output:
                output = number
            elif place == self._cached:
                cached = number


class Endings:
    """How one engine ends its answers, as far as it has shown."""

    __slots__ = ("_known", "_left")

    def __init__(self) -> None:
        self._known: list[Ending] = []
        self._left: int = MAX_LEARNT

    def find_usage(self, body: bytes) -> Usage | None:
        """What `usage.find_usage` finds in a JSON answer of this engine."""
        if len(body) > PARSED_WHOLE_BYTES:
            for ending in self._known:
                usage = ending.read(body)
                if usage is not None:
                    return usage
        usage = find_usage(body)
        if usage is not None and self._left:
            self._left -= 1
            learnt = _learnt(body)
            if learnt is not None:
                self._known = [learnt, *self._known[: MAX_ENDINGS - 1]]
        return usage


def _learnt(body: bytes) -> Ending | None:
    """How an answer ends, if others that end so can be read by it.

    Which number is which count the parser tells, when it is given the same words with numbers of which it can not
    mistake one for another; and once more with others, in which an earlier one is not the larger.
    """
    start = body.rfind(b'"usage"')
    text = body[start:]
    if start < 1 or len(text) > MAX_BYTES or body[start - 1] == _BACKSLASH or b"\\" in text:
        return None
    words = _NUMBER.split(text)
    falling = [1000 - place for place in range(len(words) - 1)]
    rising = [2000 + place for place in range(len(words) - 1)]
    usage = _parsed(words, falling)
    if usage is None or not {0, *falling}.issuperset(usage):
        return None
    ending = Ending(words, *[falling.index(count) if count else -1 for count in usage])
    return ending if ending.read(_woven(words, rising)) == _parsed(words, rising) else None


def _parsed(words: list[bytes], numbers: list[int]) -> Usage | None:
    """None where it is not the end of a document, with its usage at the top level."""
    document = json_object(_woven(words, numbers))
    return read_usage(document) if document is not None and isinstance(document.get("usage"), dict) else None


def _woven(words: list[bytes], numbers: list[int]) -> bytes:
    """A document of nothing but the ending."""
    pairs = [b"%b%d" % pair for pair in zip(words, numbers, strict=False)]
    return b"{" + b"".join(pairs) + words[-1]
