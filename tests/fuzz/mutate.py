"""New cases out of known ones: spliced, cut, repeated, and with what parsers stumble over put in the right places."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

TOKENS = [
    *(b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\n", b" ", b"\t", b"\x00", b"\xff", b":", b";", b",", b"\x0b", b"\x7f"),
    *(b"0\r\n\r\n", b"0\r\n", b"1\r\na\r\n", b"5;ext=1\r\nhello\r\n", b"FFFFFFFFFFFFFFFF\r\n", b"-1\r\n", b"0x1\r\n"),
    *(b"content-length: 0\r\n", b"content-length: 5\r\n", b"Content-Length: 5, 5\r\n", b"content-length: +5\r\n"),
    *(b"transfer-encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"transfer-encoding:\tchunked\r\n"),
    *(b"connection: close\r\n", b"connection: keep-alive\r\n", b"connection: upgrade\r\nupgrade: h2c\r\n"),
    *(b"expect: 100-continue\r\n", b"host: a\r\n", b"x: y\r\n", b" folded\r\n", b"content-length : 5\r\n"),
    *(b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"POST ", b"GET ", b"/", b"*", b"http://h/", b"#", b"?"),
    *(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 204 No Content\r\n", b"HTTP/1.1 304 x\r\n"),
    *(
        b"data: ",
        b"data: {}\n\n",
        b"data: [DONE]\n\n",
        b": comment\n\n",
        b"event: error\n",
        b'{"usage":{}}',
        b'{"error":{}}',
    ),
]


def mutated(random: Random, corpus: Sequence[bytes], most: int = 4096) -> bytes:
    """A case near one or two of the corpus, at most `most` bytes long."""
    case = bytearray(random.choice(corpus))
    if random.random() < 0.4:  # two in a row, the second from anywhere
        other = random.choice(corpus)
        case = (
            case[: random.randint(0, len(case))] + other[random.randint(0, len(other)) :]
            if random.random() < 0.4
            else case + other
        )
    for _ in range(random.choice((0, 1, 1, 1, 2, 3, 6))):
        _CHANGES[random.randrange(len(_CHANGES))](random, case)
    return bytes(case[:most])


def cuts(random: Random, length: int) -> list[int]:
    """Where to cut a case: nowhere near everywhere."""
    if length and random.random() < 0.2:
        return list(range(1, length))
    return sorted(random.randint(0, length) for _ in range(random.randint(1, 8)))


def _insert(random: Random, case: bytearray) -> None:
    at = _place(random, case)
    case[at:at] = random.choice(TOKENS)


def _replace(random: Random, case: bytearray) -> None:
    at = _place(random, case)
    token = random.choice(TOKENS)
    case[at : at + len(token)] = token


def _flip(random: Random, case: bytearray) -> None:
    if case:
        case[random.randrange(len(case))] = random.randrange(256)


def _delete(random: Random, case: bytearray) -> None:
    at = _place(random, case)
    del case[at : at + random.choice((1, 1, 2, 8, 64))]


def _repeat(random: Random, case: bytearray) -> None:
    start = _place(random, case)
    piece = case[start : start + random.choice((1, 2, 8, 40))]
    case[start:start] = piece * random.choice((1, 1, 2, 20))


def _cut(random: Random, case: bytearray) -> None:
    del case[_place(random, case) :]


_CHANGES = (_insert, _insert, _insert, _replace, _flip, _flip, _delete, _repeat, _cut)


def _place(random: Random, case: bytearray) -> int:
    """Half of the time where a line begins or ends."""
    if random.random() < 0.5:
        ends = [at for at, byte in enumerate(case) if byte == 0x0A]
        if ends:
            return random.choice(ends) + random.choice((-1, 0, 1))
    return random.randint(0, len(case))
