"""A cache entry as bytes: a versioned header, the texts, the body, and a checksum over all of it.

Whatever does not decode is a miss, so another version of the gateway on the same Redis does no harm.
"""

from __future__ import annotations

import struct
import zlib

from gateway.cache.entry import Entry

_MAGIC = b"tg1"
_HEADER = struct.Struct(">3sIIIHHHI")  # magic; prompt, cached and output tokens; lengths of three texts and the body
_CHECKSUM = struct.Struct(">I")


def encode(entry: Entry) -> bytes | None:
    """None for an entry whose fields are out of any reasonable range."""
    served, engine_model = entry.served.encode(), entry.engine_model.encode()
    try:
        header = _HEADER.pack(
            _MAGIC,
            entry.prompt_tokens,
            entry.cached_tokens,
            entry.output_tokens,
            len(entry.content_type),
            len(served),
            len(engine_model),
            len(entry.body),
        )
    except struct.error:
        return None
    data = b"".join((header, entry.content_type, served, engine_model, entry.body))
    return data + _CHECKSUM.pack(zlib.crc32(data))


def decode(data: bytes) -> Entry | None:
    """None for anything `encode` did not write."""
    if len(data) < _HEADER.size + _CHECKSUM.size:
        return None
    magic, prompt, cached, output, *lengths = _HEADER.unpack_from(data)
    if magic != _MAGIC or len(data) != _HEADER.size + sum(lengths) + _CHECKSUM.size:
        return None
    end = len(data) - _CHECKSUM.size
    if zlib.crc32(memoryview(data)[:end]) != _CHECKSUM.unpack_from(data, end)[0]:
        return None
    parts: list[bytes] = []
    position = _HEADER.size
    for length in lengths:
        parts.append(data[position : position + length])
        position += length
    content_type, served, engine_model, body = parts
    return Entry(
        body=body,
        content_type=content_type,
        served=served.decode(),
        engine_model=engine_model.decode(),
        prompt_tokens=prompt,
        cached_tokens=cached,
        output_tokens=output,
    )
