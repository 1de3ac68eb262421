"""What RFC 9112 asks of a request's head and the parser (llhttp, as httptools builds it) lets pass.

What llhttp refuses by itself: both lengths at once and a length said twice or not in digits (section 6.3), a last
coding that is not chunked (6.1), chunk sizes that are no hexadecimal number or do not fit 64 bits (7.1), line ends
other than CRLF (2.2), folded lines (5.2), white space before the colon (5.1), control characters in a value (5.5).
"""

from __future__ import annotations

import functools
import re
from typing import Final

from gateway.downstream.refusals import invalid

_JUDGED: Final = frozenset((b"host", b"content-length", b"transfer-encoding", b"expect"))
# uri-host [ ":" port ], by its characters: a name or an address with an optional port, or nothing (RFC 9110, 7.2)
_HOST: Final = re.compile(rb"(?:\[[0-9A-Za-z:._~-]+\]|[0-9A-Za-z._~!$&'()*+,;=%-]*)(?::[0-9]*)?")


def judge(version: str, headers: list[tuple[bytes, bytes]]) -> tuple[int | None, bool]:
    """The declared length of the body (None when it comes in chunks or there is none) and whether the client waits for
    100 Continue. Raises `BadRequest` for a head that two servers could read in two ways; names are lower case."""
    hosts = 0
    length: int | None = None
    waits = False
    for name, value in headers:
        if name in _JUDGED:
            if name == b"host":
                hosts += 1
                if not _is_host(value):
                    raise invalid("its Host header names no host (RFC 9112, 3.2)")
            elif name == b"content-length":
                length = int(value)
            elif name == b"expect":
                waits = value.strip().lower() == b"100-continue"
            elif version != "1.1" or value.strip().lower() != b"chunked":
                # Another coding first is one this server does not know (6.1); the same header again, or a list with
                # empty members, is what servers have disagreed about.
                raise invalid("the only transfer coding taken is `chunked`, said once in HTTP/1.1 (RFC 9112, 6.1)")
    if version == "1.1":
        if hosts != 1:
            raise invalid("it needs one Host header (RFC 9112, 3.2)")
        return length, waits
    if version != "1.0" or hosts > 1:
        raise invalid("its version is neither HTTP/1.1 nor HTTP/1.0" if hosts < 2 else "it has two Host headers")
    return length, False  # HTTP/1.0 has no interim answers (RFC 9110, 10.1.1)


@functools.lru_cache(maxsize=1024)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value.strip()) is not None
