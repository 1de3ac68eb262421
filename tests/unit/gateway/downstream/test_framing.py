"""Heads and bodies that two servers could read in two ways: each is refused, and what hides behind it is no request."""

from __future__ import annotations

import pytest

from gateway.downstream.framing import judge
from gateway.errors import BadRequest
from tests.unit.gateway.dialogue import dialogue
from tests.unit.gateway.downstream.front import PATH, Front, request

START = f"POST {PATH} HTTP/1.1\r\nhost: front\r\n".encode()
CHUNKS = b"\r\n\r\n1\r\na\r\n0\r\n\r\n"
IN_CHUNKS = START + b"transfer-encoding: chunked\r\n\r\n"
END = b"content-length: 0\r\n\r\n"
HIDDEN = request(b"hidden")

# What is refused: its section in RFC 9112, and who sees it, the parser or `framing.judge`.
AMBIGUOUS: dict[str, bytes] = {
    # 6.3: how long the body is
    "6.3 parser: both lengths": START + b"content-length: 4\r\ntransfer-encoding: chunked" + CHUNKS,
    "6.3 parser: both lengths, the other way": START + b"transfer-encoding: chunked\r\ncontent-length: 4" + CHUNKS,
    "6.3 parser: two lengths": START + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab",
    "6.3 parser: a length said twice": START + b"content-length: 1\r\ncontent-length: 1\r\n\r\na",
    "6.3 parser: a list of lengths": START + b"content-length: 1, 1\r\n\r\na",
    "6.3 parser: a signed length": START + b"content-length: +1\r\n\r\na",
    "6.3 parser: a negative length": START + b"content-length: -1\r\n\r\na",
    "6.3 parser: a hexadecimal length": START + b"content-length: 0x1\r\n\r\na",
    "6.3 parser: a length in two words": START + b"content-length: 1 1\r\n\r\naaaaaaaaaaa",
    "6.3 parser: a length with a separator": START + b"content-length: 1_0\r\n\r\naaaaaaaaaa",
    "6.3 parser: an empty length": START + b"content-length:\r\n\r\n",
    "6.3 parser: a length beyond 64 bits": START + b"content-length: 18446744073709551617\r\n\r\na",
    # 6.1: transfer codings
    "6.1 parser: the coding said twice": START + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked" + CHUNKS,
    "6.1 parser: chunked twice": START + b"transfer-encoding: chunked, chunked" + CHUNKS,
    "6.1 parser: chunked is not the last": START + b"transfer-encoding: chunked, identity" + CHUNKS,
    "6.1 parser: nearly chunked": START + b"transfer-encoding: xchunked" + CHUNKS,
    "6.1 parser: chunked with a parameter": START + b"transfer-encoding: chunked;q=1" + CHUNKS,
    "6.1 parser: another white space": START + b"transfer-encoding: \x0bchunked" + CHUNKS,
    "6.1 parser: no coding": START + b"transfer-encoding:" + CHUNKS,
    "6.1 parser: a coding nobody knows": START + b"transfer-encoding: cow" + CHUNKS,
    "6.1 judge: another coding first": START + b"transfer-encoding: gzip, chunked" + CHUNKS,
    "6.1 judge: another coding in a line before": START
    + b"transfer-encoding: gzip\r\ntransfer-encoding: chunked"
    + CHUNKS,
    "6.1 judge: a coding that is none": START + b"transfer-encoding: identity, chunked" + CHUNKS,
    "6.1 judge: an empty member": START + b"transfer-encoding: ,chunked" + CHUNKS,
    "6.1 judge: chunks in HTTP/1.0": START.replace(b"1.1", b"1.0") + b"transfer-encoding: chunked" + CHUNKS,
    # 7.1: chunks
    "7.1 parser: a prefix before the size": IN_CHUNKS + b"0x1\r\na\r\n0\r\n\r\n",
    "7.1 parser: a signed size": IN_CHUNKS + b"+1\r\na\r\n0\r\n\r\n",
    "7.1 parser: a negative size": IN_CHUNKS + b"-1\r\na\r\n0\r\n\r\n",
    "7.1 parser: a space before the size": IN_CHUNKS + b" 1\r\na\r\n0\r\n\r\n",
    "7.1 parser: a space after the size": IN_CHUNKS + b"1 \r\na\r\n0\r\n\r\n",
    "7.1 parser: a size beyond 64 bits": IN_CHUNKS + b"10000000000000001\r\na\r\n0\r\n\r\n",
    "7.1 parser: no size": IN_CHUNKS + b"\r\na\r\n0\r\n\r\n",
    "7.1 parser: more than the size": IN_CHUNKS + b"1\r\nab\r\n0\r\n\r\n",
    "7.1 parser: nothing after the data": IN_CHUNKS + b"1\r\na0\r\n\r\n",
    "7.1 parser: LF after the size": IN_CHUNKS + b"1\na\r\n0\r\n\r\n",
    "7.1 parser: LF after the data": IN_CHUNKS + b"1\r\na\n0\r\n\r\n",
    "7.1 parser: LF after the last": IN_CHUNKS + b"1\r\na\r\n0\n\r\n",
    "7.1 parser: LF at the end": IN_CHUNKS + b"1\r\na\r\n0\r\n\n",
    "7.1.1 parser: LF ends an extension": IN_CHUNKS + b"1;a\na\r\n0\r\n\r\n",
    "7.1.1 parser: CR in an extension": IN_CHUNKS + b"1;a\rb\r\na\r\n0\r\n\r\n",
    "7.1.1 parser: a line end in a quoted extension": IN_CHUNKS + b'1;a="b\r\n"\r\na\r\n0\r\n\r\n',
    "7.1.2 parser: a length in a trailer": IN_CHUNKS + b"0\r\ncontent-length: 5\r\n\r\n",
    # 2.2: line ends
    "2.2 parser: LF for CRLF": START.replace(b"\r\n", b"\n") + b"content-length: 0\n\n",
    "2.2 parser: LF after one line": START + b"x: a\n" + END,
    "2.2 parser: LF after the head": START + b"content-length: 0\r\n\n",
    "2.2 parser: CR in a value": START + b"x: a\rtransfer-encoding: chunked\r\n" + END,
    "2.2 parser: CR before the end": START + b"content-length: 0\r\n\r\r\n",
    # 5: fields
    "5.2 parser: a folded line": START + b"x: a\r\n b\r\n" + END,
    "5.2 parser: a folded length": START + b"content-length:\r\n 0\r\n\r\n",
    "2.2 parser: white space before the first field": START.replace(b"\r\nhost", b"\r\n host") + END,
    "5.1 parser: white space before the colon": START + b"content-length : 0\r\n\r\n",
    "5.1 parser: white space before the other colon": START + b"transfer-encoding : chunked" + CHUNKS,
    "5.1 parser: no name": START + b": a\r\n" + END,
    "5.1 parser: NUL in a name": START + b"x\x00y: a\r\n" + END,
    "5.1 parser: no colon": START + b"content-length 0\r\n" + END,
    "5.5 parser: NUL in a value": START + b"x: a\x00b\r\n" + END,
    "5.5 parser: a control character in a value": START + b"x: a\x01b\r\n" + END,
    # 3: the request line
    "3.2 judge: no host": START.replace(b"host: front\r\n", b"") + END,
    "3.2 judge: two hosts": START + b"host: back\r\n" + END,
    "3.2 judge: the same host twice": START + b"host: front\r\n" + END,
    "3.2 judge: two hosts in HTTP/1.0": START.replace(b"1.1", b"1.0") + b"host: back\r\n" + END,
    "3.2 judge: a host that is a path": START.replace(b"front", b"front/back") + END,
    "3.2 judge: a host with a space": START.replace(b"front", b"front back") + END,
    "3.2 judge: a host with a user": START.replace(b"front", b"me@front") + END,
    "3.2 connection: a fragment": START.replace(b" HTTP", b"#x HTTP") + END,
    "3.2 connection: no path": START.replace(PATH.encode(), b"http://front") + END,
    "3.2 connection: an authority": START.replace(PATH.encode(), b"front:80") + END,
    "3.2 connection: a port that is none": START.replace(PATH.encode(), b"http://front:99999" + PATH.encode()) + END,
    "3.2 parser: a space in the target": START.replace(b"completions", b"com pletions") + END,
    "3.2 parser: a byte that is no text": START.replace(b"completions", b"com\xffpletions") + END,
    "3 parser: a tab": START.replace(b" HTTP", b"\tHTTP") + END,
    "3 parser: a space after the version": START.replace(b"1.1\r\n", b"1.1 \r\n") + END,
    "3.1 parser: a method in lower case": START.replace(b"POST", b"post") + END,
    "2.3 parser: a later version": START.replace(b"1.1", b"1.2") + END,
    "2.3 judge: another version": START.replace(b"1.1", b"2.0") + END,
    "2.3 judge: an older version": START.replace(b"1.1", b"0.9") + END,
    "2.3 judge: no version": f"POST {PATH}\r\n\r\n".encode(),
    "9.3 parser: a tunnel": b"CONNECT front:443 HTTP/1.1\r\nhost: front\r\n\r\n",
    "7.8 parser: two lengths under an offer": START + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 4\r\n"
    b"transfer-encoding: chunked" + CHUNKS,
}


@pytest.mark.parametrize("name", AMBIGUOUS)
@dialogue
async def test_what_can_be_read_in_two_ways_is_refused_and_ends_the_connection(name: str) -> None:
    async with Front() as front, await front.client() as client:
        assert (await client.ask(b"1")).status == 200
        client.say(AMBIGUOUS[name] + HIDDEN)
        reply = await client.reply()
        assert (reply.status, reply.code, reply.headers["connection"]) == (400, "invalid_http", "close")
        assert await client.closed() == b""
        assert [exchange.body for exchange in front.seen] == [b"1"]


# What looks odd and is not: the request behind it is the next one.
PLAIN: dict[str, tuple[bytes, int]] = {
    "2.2: empty lines before": (b"\r\n\r\n" + START + END, 0),
    "2.2: empty lines of LF before": (b"\n\n" + START + END, 0),
    "3.2: an absolute target": (START.replace(PATH.encode(), b"http://other:80" + PATH.encode()) + END, 0),
    "3.2: an empty host": (START.replace(b"front", b"") + END, 0),
    "3.2: a host with a port": (START.replace(b"front", b"front:4000") + END, 0),
    "3.2: an address as host": (START.replace(b"front", b"[::1]:4000") + END, 0),
    "5.1: white space around a value": (START + b"content-length: \t 1 \t\r\n\r\na", 1),
    "5.5: a value beyond ASCII": (START + b"y: \xff\r\n" + END, 0),
    "6.2: a length with zeros before": (START + b"content-length: 001\r\n\r\na", 1),
    "6.3: no length": (START + b"\r\n", 0),
    "6.1: a coding in capitals": (START + b"Transfer-Encoding: CHUNKED" + CHUNKS, 1),
    "6.1: white space before a coding": (START + b"transfer-encoding: \tchunked" + CHUNKS, 1),
    "7.1: a size with zeros before": (IN_CHUNKS + b"00000001\r\na\r\n000\r\n\r\n", 1),
    "7.1: a size in capitals": (IN_CHUNKS + b"A\r\n0123456789\r\n0\r\n\r\n", 10),
    "7.1.1: extensions": (IN_CHUNKS + b'1;a=b;c;d="e;f"\r\na\r\n0;g\r\n\r\n', 1),
    "7.1.2: trailers": (IN_CHUNKS + b"1\r\na\r\n0\r\nhost: other\r\nx-api-key: k\r\n\r\n", 1),
}


@pytest.mark.parametrize("name", PLAIN)
@dialogue
async def test_what_can_be_read_in_one_way_only_is_taken(name: str) -> None:
    sent, size = PLAIN[name]
    async with Front() as front, await front.client() as client:
        client.say(sent + HIDDEN)
        assert (await client.reply()).json == {"path": PATH, "size": size, "x": ""}
        assert (await client.reply()).json["size"] == len(b"hidden")
        assert len(front.seen) == 2


@dialogue
async def test_a_target_for_the_whole_server_is_the_applications() -> None:
    async with Front() as front, await front.client() as client:
        assert (await client.ask(method="OPTIONS", path="*")).json["asgi"] == "*"
        assert (await client.ask(path=f"/x/..{PATH}")).json["asgi"] == f"/x/..{PATH}"
        assert (await client.ask(path=f"/{PATH}")).json["asgi"] == f"/{PATH}"
        assert front.seen == []


def test_a_head_is_judged_by_four_of_its_fields() -> None:
    host = (b"host", b"front")
    assert judge("1.1", [host, (b"x", b"y")]) == (None, False)
    assert judge("1.1", [host, (b"content-length", b"12"), (b"expect", b"100-Continue ")]) == (12, True)
    assert judge("1.1", [host, (b"expect", b"a miracle")]) == (None, False)
    assert judge("1.0", [(b"expect", b"100-continue")]) == (None, False)
    with pytest.raises(BadRequest, match=r"3\.2"):
        judge("1.1", [])
