"""`python -m loadtests.hotpath`: what one request costs in the gateway's own code, in nanoseconds of this thread.

No socket and no kernel: the client's and the worker's transports are objects that take and give bytes, the rest is the
gateway as it runs, uvloop and all features included. CPU time of one thread, the best of several rounds: good for
telling two versions of the code apart on a machine that others use too. What it leaves out is the kernel, the loop's
reading of sockets, and the threads that write the log and the ledger.

With `--instructions` valgrind counts what a request takes, which no neighbour changes: only what the gateway does by
the clock weighs more there, as valgrind takes fifty times as long. `callgrind_annotate` shows where they go.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop
from uvicorn.server import ServerState

from gateway.app import Gateway
from gateway.config import load
from gateway.downstream.connection import ClientConnection
from gateway.logs import LogWriter
from loadtests.client import Target, chat_request
from loadtests.peers.base import MODEL, ROOT, Place
from loadtests.peers.tollgate import KEY, write_config

_DOCUMENT = (  # as the stand-in worker writes it
    b'{"id":"chatcmpl-ac95375c00000001","object":"chat.completion","created":1795256996,"model":"bench","choices":'
    b'[{"index":0,"message":{"role":"assistant","content":"The worker says the same words over and over again.The '
    b'worker says the same","refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null},'
    b'"logprobs":null,"finish_reason":"length","stop_reason":null,"token_ids":null,"routed_experts":null}],'
    b'"service_tier":null,"system_fingerprint":"vllm-0.32.0-standin0","usage":{"prompt_tokens":164,"total_tokens":180,'
    b'"completion_tokens":16,"prompt_tokens_details":{"cached_tokens":0,"created_cache_tokens":0,'
    b'"multimodal_tokens":null},"completion_tokens_details":null},"prompt_logprobs":null,"prompt_token_ids":null,'
    b'"prompt_text":null,"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}'
)
_ANSWER = (
    b"HTTP/1.1 200 OK\r\ndate: Mon, 01 Jan 2029 00:00:00 GMT\r\nserver: uvicorn\r\n"
    b"content-length: %d\r\ncontent-type: application/json\r\n\r\n%b" % (len(_DOCUMENT), _DOCUMENT)
)
CONCURRENT = 32  # requests under way at a time
SHORT, LONG = 600, 1600  # requests, of the two runs whose difference is told
RESULTS = ROOT / "loadtests" / "results"


class _Wire(asyncio.Transport):
    """A transport without a socket: what is written goes to `written`."""

    def __init__(self, written: Callable[[bytes], None]) -> None:
        super().__init__()
        self._written = written
        self._closing = False

    def write(self, data: Any) -> None:
        self._written(data)

    def is_closing(self) -> bool:
        return self._closing

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self._closing = True

    abort = close

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


class _Loop(uvloop.Loop):
    """Connects to a worker that has the same answer to everything, one turn of the loop later."""

    async def create_connection(self, protocol_factory: Callable[[], Any], *_: Any, **__: Any) -> Any:  # type: ignore[override]
        protocol = protocol_factory()

        def answer() -> None:
            protocol.get_buffer(-1)[: len(_ANSWER)] = _ANSWER
            protocol.buffer_updated(len(_ANSWER))

        wire = _Wire(lambda _: self.call_soon(answer) and None)
        protocol.connection_made(wire)
        return wire, protocol


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.hotpath", description=__doc__)
    parser.add_argument("--rounds", type=int, default=80)
    parser.add_argument("--requests", type=int, default=600, help="per round")
    parser.add_argument("--no-ledger", action="store_true", help="what it costs without")
    parser.add_argument("--no-decisions", action="store_true", help="what it costs where none is kept to be explained")
    parser.add_argument("--instructions", action="store_true", help="counted by valgrind (Debian: valgrind)")
    arguments = parser.parse_args()
    if arguments.instructions:
        sys.exit(_count_instructions())
    with tempfile.TemporaryDirectory() as scratch, asyncio.Runner(loop_factory=_Loop) as runner:
        if arguments.no_decisions:
            Path(scratch, "decisions.yaml").write_text("decisions: {keep_mb: 0}\n")
        runner.run(_measure(Path(scratch), arguments))


def _count_instructions() -> int:
    """Of a request: the difference between a long run and a short one. Both profiles are kept."""
    if shutil.which("valgrind") is None:
        print("valgrind is not installed: `apt-get install valgrind` brings it", file=sys.stderr)
        return 2
    RESULTS.mkdir(parents=True, exist_ok=True)
    counted: list[int] = []
    for requests in SHORT, LONG:
        profile = RESULTS / f"callgrind.{requests}"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={profile}", sys.executable]
        command += ["-m", "loadtests.hotpath", "--rounds", "1", "--requests", str(requests)]
        done = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, text=True)
        refs = re.search(r"refs:\s+([\d,]+)", done.stderr)
        if done.returncode or refs is None:
            print(done.stderr, file=sys.stderr)
            return 1
        counted.append(int(refs[1].replace(",", "")))
        print(f"profile: {profile}")
    print(f"{(counted[1] - counted[0]) / (LONG - SHORT):8,.0f} instructions per request")
    return 0


async def _measure(scratch: Path, arguments: argparse.Namespace) -> None:
    write_config(scratch, Place("http://127.0.0.1:1", 1, scratch), ledger=not arguments.no_ledger)
    log = LogWriter(os.open(os.devnull, os.O_WRONLY))
    gateway = Gateway(scratch, load(scratch), log)
    gateway.fleet.apply(gateway.table)
    for backend in gateway.fleet.backends():
        backend.up, backend.base_name = True, MODEL
    target = Target("http://127.0.0.1", (("authorization", f"Bearer {KEY}"),))
    request = chat_request(target, MODEL, stream=False, tokens=16)
    best = float("inf")
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    clients = _Clients(gateway, request)
    for _ in range(arguments.rounds):
        before = time.thread_time_ns()
        await clients.run(arguments.requests)
        best = min(best, (time.thread_time_ns() - before) / arguments.requests)
    print(f"{best:8.0f} ns per request")
    gateway.ledger.close()
    log.close()


class _Clients:
    """Connections of which each sends its next request when it has the answer to the last."""

    def __init__(self, gateway: Gateway, request: bytes) -> None:
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._left = self._running = 0
        connect = gateway.connecting()
        self._connections = [self._connected(connect(ServerState())) for _ in range(CONCURRENT)]

    async def run(self, count: int) -> None:
        self._over = self._loop.create_future()
        self._left, self._running = count, CONCURRENT
        for connection in self._connections:
            self._next(connection)
        await self._over

    def _connected(self, connection: ClientConnection) -> ClientConnection:
        def answered(data: bytes) -> None:
            if data.startswith(b"HTTP/1.1 200 OK"):
                self._next(connection)
            else:
                self._over.set_exception(AssertionError(data))

        connection.connection_made(_Wire(answered))
        return connection

    def _next(self, connection: ClientConnection) -> None:
        if self._left:
            self._left -= 1
            self._loop.call_soon(connection.data_received, self._request)
            return
        self._running -= 1
        if not self._running:
            self._over.set_result(None)


if __name__ == "__main__":
    main()
