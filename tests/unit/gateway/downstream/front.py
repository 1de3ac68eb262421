"""A real uvicorn server with our connections and a scripted handler, and a bare client to talk to it."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple, Self

import orjson
import uvicorn

from gateway.downstream.connection import ClientConnection
from gateway.downstream.exchange import Exchange
from gateway.downstream.ids import new_request_id
from gateway.downstream.limits import Intake, Limits
from gateway.errors import GatewayError

PATH = "/v1/chat/completions"
JSON = b"application/json"
LIMIT = 1024 * 1024

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """The control plane: says what it was asked, body included."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message["more_body"]
    body = orjson.dumps({"asgi": scope["path"], "method": scope["method"], "size": size})
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def echo(exchange: Exchange) -> None:
    """The data plane: says the same of an exchange."""
    said = {"path": exchange.path, "size": len(exchange.body), "x": (exchange.header(b"x") or b"").decode()}
    exchange.respond(200, JSON, [b"x-request-id: r"], orjson.dumps(said))


def admit(exchange: Exchange) -> GatewayError | None:
    """The screen that lets everything come."""
    return None


def refuse(exchange: Exchange, error: GatewayError) -> None:
    """Answers as the service does, less what only it knows."""
    headers = [
        b"x-request-id: " + new_request_id().encode(),
        b"x-should-retry: %b" % str(error.retryable).lower().encode(),
    ]
    exchange.respond(error.status, JSON, headers, error.body())


class Front:
    """Listens on loopback until the block ends; `limits` are those of `Limits`. What is refused is not in `seen`."""

    def __init__(
        self,
        handler: Callable[[Exchange], Coroutine[Any, Any, None]] = echo,
        app: Callable[[Scope, Receive, Send], Awaitable[None]] = application,
        screen: Callable[[Exchange], GatewayError | None] = admit,
        host: str = "127.0.0.1",
        **limits: Any,
    ) -> None:
        self.host = host
        self.seen: list[Exchange] = []
        self.refused: list[Exchange] = []
        self.intake = Intake(Limits(**{"max_body_bytes": LIMIT, **limits}))

        async def recording(exchange: Exchange) -> None:
            if exchange.refusal is not None:
                self.refused.append(exchange)
                refuse(exchange, exchange.refusal)
                return
            self.seen.append(exchange)
            await handler(exchange)

        protocol = functools.partial(
            ClientConnection,
            handler=recording,
            screen=screen,
            paths=frozenset({PATH, "/tokenize"}),
            intake=self.intake,
        )
        config = uvicorn.Config(
            app,  # type: ignore[arg-type]
            http=protocol,  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=60,
        )
        config.load()
        self.server = uvicorn.Server(config)
        self.server.lifespan = config.lifespan_class(config)

    async def __aenter__(self) -> Self:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.create_server((self.host, 0), family=family)
        self.port: int = listener.getsockname()[1]
        self._listener = listener
        await self.server.startup(sockets=[listener])
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in list(self.connections):
            connection.transport.abort()
        for server in self.server.servers:
            server.close()
        self._listener.close()
        await self.idle()

    @property
    def connections(self) -> set[Any]:
        return self.server.server_state.connections

    async def idle(self) -> None:
        """Until no connection and no task is left."""
        while self.connections or self.server.server_state.tasks:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    async def idle_tasks(self) -> None:
        """Until no request is being answered."""
        while self.server.server_state.tasks:  # noqa: ASYNC110
            await asyncio.sleep(0)

    async def client(self, **how: Any) -> Client:
        client = Client(*await asyncio.open_connection(self.host, self.port, **how))
        await client.settled(self)
        return client


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return orjson.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error in OpenAI's shape, all of which must be there."""
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert self.headers["content-type"] == "application/json"
        assert self.headers["x-request-id"].startswith("req_")
        return error["code"]


def request(body: bytes = b"", *headers: bytes, path: str = PATH, method: str = "POST", version: str = "1.1") -> bytes:
    lines = [f"{method} {path} HTTP/{version}".encode(), b"host: front", b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.leave()

    async def settled(self, front: Front) -> None:
        while not front.connections:  # noqa: ASYNC110
            await asyncio.sleep(0)

    def say(self, *data: bytes) -> None:
        for each in data:
            self.writer.write(each)

    async def head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        assert lines[0].startswith("HTTP/1.1 ")
        return int(lines[0].split(" ")[1]), dict(line.split(": ", 1) for line in lines[1:])

    async def reply(self) -> Reply:
        status, headers = await self.head()
        if "content-length" in headers:
            return Reply(status, headers, await self.reader.readexactly(int(headers["content-length"])))
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while piece := await self.chunk():
                body += piece
            return Reply(status, headers, body)
        return Reply(status, headers, b"" if status < 200 else await self.reader.read())

    async def chunk(self) -> bytes:
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def ask(self, body: bytes = b"", *headers: bytes, **how: Any) -> Reply:
        self.say(request(body, *headers, **how))
        return await self.reply()

    async def closed(self) -> bytes:
        """What still comes until the server closes."""
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b""

    def leave(self) -> None:
        self.writer.transport.abort()
