"""The `x-ratelimit-*` response headers, in OpenAI's spelling."""

from __future__ import annotations

from typing import Final

_BELOW_A_SECOND: Final = [b"0s", *(b"%dms" % milliseconds for milliseconds in range(1, 1_000))]  # as most resets are


class Kind:
    """What is limited, `requests` or `tokens`, with what stands around the figures in its header lines."""

    __slots__ = ("_limit", "_remaining", "_reset")

    def __init__(self, name: str) -> None:
        self._limit = f"x-ratelimit-limit-{name}: ".encode()
        self._remaining = f"\r\nx-ratelimit-remaining-{name}: ".encode()
        self._reset = f"\r\nx-ratelimit-reset-{name}: ".encode()

    def lines(self, limit: int, remaining: int, reset: int) -> bytes:
        """Three header lines, with CRLF between them: the limit, what is left of it, and the milliseconds until all of
        it is back."""
        return b"%b%d%b%d%b%b" % (self._limit, limit, self._remaining, remaining, self._reset, duration(reset))


REQUESTS: Final = Kind("requests")
TOKENS: Final = Kind("tokens")


def duration(milliseconds: int) -> bytes:
    """As `120ms`, `1s`, `8.64s` or `6m0s`."""
    if milliseconds < 1_000:
        return _BELOW_A_SECOND[milliseconds if milliseconds > 0 else 0]
    minutes, milliseconds = divmod(milliseconds, 60_000)
    if minutes:
        return b"%dm%gs" % (minutes, milliseconds / 1_000)
    return b"%gs" % (milliseconds / 1_000)
