"""Multipart form bodies (RFC 7578), read strictly.

The gateway decides by the `model` field it reads and the worker obeys the one it reads: the two must be the same field
in every body that passes. So whatever two readers could take differently is refused.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from gateway.errors import BadRequest

MAX_PART_HEAD_BYTES = 8192
MAX_PARTS = 1000

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rb"[ \t]*;[ \t]*(" + _TOKEN + rb')=(?:"((?:[^"\\]|\\.)*)"|(' + _TOKEN + rb"))")
_DISPOSITION = re.compile(rb"[ \t]*form-data(?=[ \t;]|\Z)", re.IGNORECASE)
_FORM_DATA = re.compile(rb"[ \t]*multipart/form-data(?=[ \t;]|\Z)", re.IGNORECASE)
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046, section 5.1.1


class Part(NamedTuple):
    """A form field: its name and where its value lies in the body."""

    name: bytes
    is_file: bool
    start: int
    end: int


def read_boundary(content_type: bytes) -> bytes:
    """The boundary that a Content-Type header announces."""
    parameters = _parameters(content_type, _FORM_DATA)
    boundary = None if parameters is None else parameters.get(b"boundary")
    if boundary is None or not _BOUNDARY.fullmatch(boundary):
        raise BadRequest("This endpoint takes multipart/form-data with a boundary, a `model` field and a file.")
    return boundary


def content_type(boundary: bytes) -> bytes:
    """The header that announces `boundary`, and nothing else, to the worker."""
    return b'multipart/form-data; boundary="%b"' % boundary


def read_parts(boundary: bytes, body: bytes) -> list[Part]:
    """The fields of a body, in order; what follows the closing boundary is nobody's."""
    delimiter = b"\r\n--" + boundary
    parts: list[Part] = []
    if not body.startswith(delimiter[2:]):
        raise _malformed("it does not begin with its boundary")
    position = len(delimiter) - 2
    while not body.startswith(b"--", position):
        if not body.startswith(b"\r\n", position):
            raise _malformed("a boundary is not alone on its line")
        if len(parts) == MAX_PARTS:
            raise _malformed(f"it has more than {MAX_PARTS} fields")
        start = body.find(b"\r\n\r\n", position, position + MAX_PART_HEAD_BYTES) + 4
        if start < 4:
            raise _malformed("the headers of a field have no end")
        end = body.find(delimiter, start)
        if end < 0:
            raise _malformed("its last boundary is missing")
        name, is_file = _read_head(body[position + 2 : start - 4])
        parts.append(Part(name, is_file, start, end))
        position = end + len(delimiter)
    return parts


def _read_head(head: bytes) -> tuple[bytes, bool]:
    dispositions: list[bytes] = []
    for line in head.split(b"\r\n"):
        key, colon, value = line.partition(b":")
        if not colon or not re.fullmatch(_TOKEN, key) or b"\r" in value or b"\n" in value:
            raise _malformed("a field has a header that is none")
        if key.lower() == b"content-disposition":
            dispositions.append(value)
    parameters = _parameters(dispositions[0], _DISPOSITION) if len(dispositions) == 1 else None
    name = None if parameters is None else parameters.get(b"name")
    if parameters is None or name is None or b"\\" in name or b"name*" in parameters:
        raise _malformed("a field does not have exactly one plain name")
    return name, b"filename" in parameters or b"filename*" in parameters


def _parameters(value: bytes, kind: re.Pattern[bytes]) -> dict[bytes, bytes] | None:
    """The parameters of a header value of that kind; None when it is another or when one is malformed or repeated."""
    found = kind.match(value)
    if found is None:
        return None
    value = value.rstrip(b" \t;")
    parameters: dict[bytes, bytes] = {}
    position = found.end()
    while position < len(value):
        found = _PARAMETER.match(value, position)
        if found is None or (key := found[1].lower()) in parameters:
            return None
        parameters[key] = found[3] if found[2] is None else found[2]
        position = found.end()
    return parameters


def _malformed(why: str) -> BadRequest:
    return BadRequest(f"The multipart body is malformed: {why}.")
