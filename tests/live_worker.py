"""Workers in a thread of their own, for tests that talk to the gateway without an event loop."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Coroutine, Iterable
from typing import Any, Self, TypeVar

import orjson

from loadtests.standin import INSTANT, Behaviour, Recorded, Standin
from loadtests.standin.models import Models

T = TypeVar("T")

PATIENCE = 30.0


class LoopThread:
    """An event loop that runs beside the test; `run` lends it a coroutine and waits for the result."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    def close(self) -> None:
        self.run(self._cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    async def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class LiveWorker:
    """`with LiveWorker() as worker:` is a stand-in for vLLM that answers on `worker.url` until the block ends."""

    def __init__(self, models: Iterable[str] = ("tiny@v1",), **options: Any) -> None:
        self._standin = Standin(models, **options)

    def __enter__(self) -> Self:
        self._thread = LoopThread()
        self._thread.run(self._standin.__aenter__())
        self.url, self.port = self._standin.url, self._standin.port
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.run(self._standin.__aexit__())
        self._thread.close()

    def behave(self, **wishes: Any) -> None:
        """What requests get from now on that ask for nothing themselves; without wishes: the default."""

        async def assign() -> None:
            self._standin.behaviour = Behaviour(**wishes) if wishes else INSTANT

        self._thread.run(assign())

    def release(self) -> None:
        """Ends every delay of the requests that are here now."""

        async def release() -> None:
            self._standin.release()

        self._thread.run(release())

    def hang_up(self) -> None:
        """Drops every connection, so that whoever waits for a stuck answer hears of it."""

        async def abort() -> None:
            for connection in list(self._standin.connections):
                connection.transport.abort()

        self._thread.run(abort())

    def seen(self, request_id: str) -> list[Recorded]:
        """What arrived here of one request of the gateway's."""

        async def find() -> list[Recorded]:
            return [one for one in self._standin.requests_seen if one.headers.get("x-request-id") == request_id]

        return self._thread.run(find())

    def arrivals(self) -> list[str]:
        """The ids of the gateway's requests that arrived here, oldest first."""

        async def find() -> list[str]:
            return [one.headers["x-request-id"] for one in self._standin.requests_seen if "x-request-id" in one.headers]

        return self._thread.run(find())

    def body(self, request_id: str) -> Any:
        """The JSON body of the one request of that id that arrived here."""
        (only,) = self.seen(request_id)
        return orjson.loads(only.body)

    def work(self) -> list[tuple[str, int]]:
        """Of every request of the gateway's that arrived here, its id and the tokens it was sent."""

        async def find() -> list[tuple[str, int]]:
            return [
                (one.recorded.headers["x-request-id"], one.tokens)
                for one in self._standin.requests
                if one.recorded and one.counts and "x-request-id" in one.recorded.headers
            ]

        return self._thread.run(find())

    def tokens_sent(self) -> int:
        """Of the last request that was not a probe."""

        async def last() -> int:
            return next(
                one.tokens
                for one in reversed(self._standin.requests)
                if one.recorded and "x-request-id" in one.recorded.headers
            )

        return self._thread.run(last())

    @property
    def models(self) -> Models:
        """The names and adapters of it; to be looked at, and set between requests."""
        return self._standin.models

    @property
    def active(self) -> int:
        return self._standin.active

    @property
    def aborted(self) -> int:
        return self._standin.aborted

    @property
    def finished(self) -> int:
        return self._standin.finished

    def wait_for(self, **state: int) -> None:
        """Until at least that many requests are `active`, `aborted` or `finished`."""
        self._thread.run(self._standin.wait_for(**state))

    def wait_idle(self) -> None:
        self._thread.run(self._standin.wait_idle())


class ScriptedWorker:
    """A worker that says word for word what a test wrote: the bytes under the name in the body's `script` field. If
    there are none, it says nothing at all, and `active` counts those that wait.

    Probes, and whoever asks for no script, get a plain answer of the model. `asked` has the head and the body of every
    request, probes left out.
    """

    def __init__(
        self, model: str = "tiny@v1", host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, **scripts: bytes
    ) -> None:
        self._host = host
        self._tls = tls
        self._model = model
        self.scripts = scripts
        self.active = 0
        self.asked: list[tuple[bytes, bytes]] = []

    def __enter__(self) -> Self:
        self._thread = LoopThread()
        self._server = self._thread.run(_listen(self._serve, self._host, self._tls))
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.url = f"http{'s' if self._tls else ''}://{host}:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.run(_close(self._server))
        self._thread.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
                body = await reader.readexactly(int(lines.get(b"content-length", b"0")))
                if b"\r\nx-request-id: " in head:
                    self.asked.append((head, body))
                said = self._answer(head, body)
                if not said:
                    await self._say_nothing(reader)
                    return
                await self._say(writer, said)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _say(self, writer: asyncio.StreamWriter, answer: bytes) -> None:
        writer.write(answer)
        await writer.drain()

    async def _say_nothing(self, reader: asyncio.StreamReader) -> None:
        """Until who asked has gone."""
        self.active += 1
        try:
            await reader.read()
        finally:
            self.active -= 1

    def _answer(self, head: bytes, body: bytes) -> bytes:
        script = orjson.loads(body).get("script") if body.startswith(b"{") else None
        if script is not None:
            return self.scripts[script]
        document: dict[str, Any] = {"id": "x", "object": "list", "model": self._model, "choices": [{"index": 0}]}
        document["data"] = [{"id": self._model, "object": "model"}]
        return http_answer(orjson.dumps(document))


def http_answer(
    body: bytes, status: bytes = b"200 OK", content_type: bytes = b"application/json", more: bytes = b""
) -> bytes:
    """A whole answer; `more` are further header lines, each ended by CRLF."""
    head = b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n%b\r\n" % (status, content_type, len(body), more)
    return head + body


def http_stream(*events: bytes) -> bytes:
    """A whole event stream, one HTTP chunk for each of `events`."""
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events)
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n%b0\r\n\r\n" % chunks
    )


async def _listen(serve: Any, host: str, tls: ssl.SSLContext | None) -> asyncio.Server:
    return await asyncio.start_server(serve, host, 0, ssl=tls)


async def _close(server: asyncio.Server) -> None:
    server.close()
