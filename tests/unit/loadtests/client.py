"""A bare HTTP client for dialogues with a server: it shows what arrived, also when that is not HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import wraps
from typing import ParamSpec, Self

P = ParamSpec("P")


def dialogue(test: Callable[P, Coroutine[object, object, None]]) -> Callable[P, None]:
    """Runs an async test on a loop of its own; nothing in these dialogues may take longer than 20 seconds."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(20):
                await test(*args, **kwargs)

        asyncio.run(bounded())

    return run


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes
    chunks: list[bytes] = field(default_factory=list)

    @property
    def json(self) -> object:
        return json.loads(self.body)


class Client:
    """One connection. `ask` sends and reads one exchange; `raw` shows everything until the server closes."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.writer.transport.abort()

    def send(
        self,
        path: str,
        body: object = None,
        *,
        method: str = "POST",
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> None:
        payload = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "host: worker"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body is not None:
            lines += [f"content-type: {content_type}", f"content-length: {len(payload)}"]
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + payload)

    async def head(self) -> Reply:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        return Reply(int(lines[0].split()[1]), headers, b"")

    async def chunk(self) -> bytes:
        size = int(await self.reader.readline(), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def ask(self, path: str, body: object = None, **how: object) -> Reply:
        self.send(path, body, **how)  # type: ignore[arg-type]
        reply = await self.head()
        if "content-length" in reply.headers:
            reply.body = await self.reader.readexactly(int(reply.headers["content-length"]))
        else:
            while chunk := await self.chunk():
                reply.chunks.append(chunk)
            reply.body = b"".join(reply.chunks)
        return reply

    async def rest(self) -> bytes:
        """Everything that still comes; ConnectionResetError when the server resets."""
        return await self.reader.read()
