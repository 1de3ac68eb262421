"""Where h11, which both kinds of bytes are held against, is stricter than RFC 9112 without saying anything of ours."""

from __future__ import annotations

import re

# No size of a chunk has more than 20 digits for it; section 7.1 has no such bound, and leading zeros say nothing.
_LONG_SIZE = re.compile(r"illegal chunk header: bytearray\(b'[0-9A-Fa-f]{21}")


def is_stricter(why_not: str, known: tuple[str, ...]) -> bool:
    """Whether that is all there is to its refusal; `known` is how those of one kind begin that are."""
    return why_not.startswith(known) or _LONG_SIZE.match(why_not) is not None
