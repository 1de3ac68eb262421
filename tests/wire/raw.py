"""A client that writes the bytes it is told to, for what no library would send."""

from __future__ import annotations

import socket
from collections.abc import Iterable

import httptools

PATIENCE = 30.0


class Answer:
    """One answer as it came; `headers` has lowercase names."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.complete = False
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = self.status >= 200


class RawClient:
    """`with RawClient(port) as client:` is one connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)

    @property
    def port(self) -> int:
        """Of this end."""
        return self._socket.getsockname()[1]

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._socket.sendall(piece)

    def answer(self) -> Answer:
        """The next answer; one that the gateway breaks off has `complete` False."""
        answer = Answer()
        while not answer.complete:
            data = self._socket.recv(65536)
            if not data:
                break
            answer.feed(data)
        return answer

    def answers(self, count: int) -> list[Answer]:
        """The next answers, of requests sent in one go."""
        data, found = b"", list[Answer]()
        while len(found) < count:
            answer = Answer()
            at = 0
            while not answer.complete:
                if at == len(data):
                    more = self._socket.recv(65536)
                    assert more, f"closed after {len(found)} answers"
                    data += more
                at += 1
                answer.feed(data[at - 1 : at])  # byte by byte, so that the next answer begins where this one ends
            data = data[at:]
            found.append(answer)
        return found

    def read(self) -> bytes:
        """What comes next."""
        data = self._socket.recv(65536)
        assert data, "closed"
        return data

    def read_until(self, wanted: bytes) -> bytes:
        """Everything up to the read that brings `wanted`."""
        data = b""
        while wanted not in data:
            more = self._socket.recv(65536)
            assert more, f"closed before {wanted!r}: {data!r}"
            data += more
        return data

    def read_to_end(self) -> bytes:
        data = b""
        while more := self._socket.recv(65536):
            data += more
        return data

    def leave(self) -> None:
        """Closes the connection, whatever is under way on it."""
        self._socket.close()


def post(path: str, body: bytes, *headers: str) -> bytes:
    """A whole request with a JSON body."""
    return head(path, f"content-length: {len(body)}", *headers) + body


def head(path: str, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: gateway", "content-type: application/json", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def chunked(pieces: Iterable[bytes]) -> Iterable[bytes]:
    for piece in pieces:
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"
