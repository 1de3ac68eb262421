"""Clients that do not take what they asked for: little is held for each, others do not notice, and there is an end."""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.gateway_process import KEY, GatewayProcess, configuration, worker_entry
from tests.live_worker import LiveWorker, ScriptedWorker
from tests.wire.raw import RawClient, post

CHAT = "/v1/chat/completions"
AUTH = f"authorization: Bearer {KEY}"
CLIENTS = 60
ENDLESS = b"no bytes could say this"
HELD_BYTES = 256 * 1024  # at most, for one stream
PROGRAM = """
import sys
from pathlib import Path
from gateway.app import run
from gateway.downstream.limits import Limits
sys.exit(run(Path(sys.argv[3]), int(sys.argv[5]), Limits(stall_seconds={stall}, min_taken_bytes={least})))
"""


class Flood(ScriptedWorker):
    """Whoever asks for the script `flood` gets events without end, as fast as they are taken."""

    def __init__(self) -> None:
        super().__init__(flood=ENDLESS)
        self.sent: list[int] = []  # bytes, for each stream
        self.open = 0

    async def _say(self, writer: asyncio.StreamWriter, answer: bytes) -> None:
        if answer != ENDLESS:
            await super()._say(writer, answer)
            return
        event = b'data: {"model":"tiny@v1","choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % (b"x" * 100)
        piece = event * 350
        chunk = b"%x\r\n%b\r\n" % (len(piece), piece)
        mine = len(self.sent)
        self.sent.append(0)
        self.open += 1
        try:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            while True:
                writer.write(chunk)
                await writer.drain()
                self.sent[mine] += len(piece)
        finally:
            self.open -= 1


@pytest.fixture
def flood() -> Iterator[Flood]:
    with Flood() as worker:
        yield worker


def slow_client(port: int) -> socket.socket:
    """Asks, and then takes nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(30)
    client.connect(("127.0.0.1", port))
    asked = {"model": "tiny@v1", "messages": [{"role": "user", "content": "hi"}], "stream": True, "script": "flood"}
    client.sendall(post(CHAT, json.dumps(asked).encode(), AUTH))
    return client


def stalled(gateway: GatewayProcess, flood: Flood, count: int) -> bool | None:
    """Whether that many streams flow no more, though the gateway is at work."""
    before = list(flood.sent)
    time.sleep(0.3)
    gateway.wait_ready()
    return (len(before) == count and min(before) > 0 and before == flood.sent) or None


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def program(tmp_path: Path, stall: float, least: int = 10_000) -> list[str]:
    written = tmp_path / "program.py"
    written.write_text(PROGRAM.format(stall=stall, least=least))
    return [str(written)]


def test_little_is_held_for_each_and_others_do_not_notice(flood: Flood, tmp_path: Path) -> None:
    with LiveWorker(["other@v1"]) as worker:
        written = configuration(
            [worker_entry("w0", flood.url), worker_entry("w1", worker.url, serves="other@v1")],
            models={name: {"context": 4096, "versions": {"v1": {}}} for name in ("tiny", "other")},
        )
        with GatewayProcess(tmp_path, written, program=program(tmp_path, 600.0)) as gateway:
            gateway.wait_up()
            clients = [slow_client(gateway.port) for _ in range(10)]  # what is allocated once is allocated now
            eventually(lambda: stalled(gateway, flood, 10), "nothing flows any more")
            before = resident_bytes(gateway.process.pid)
            clients += [slow_client(gateway.port) for _ in range(CLIENTS)]
            eventually(lambda: stalled(gateway, flood, CLIENTS + 10), "nothing flows any more")
            held = (resident_bytes(gateway.process.pid) - before) / CLIENTS
            assert held <= HELD_BYTES

            wish = {"tokens": 100, "pace": 0.01}
            asked = {"model": "other", "messages": [{"role": "user", "content": "hi"}], "stream": True, "standin": wish}
            gaps: list[float] = []
            with RawClient(gateway.port) as client:
                client.send(post(CHAT, json.dumps(asked | {"max_tokens": 100}).encode(), AUTH))
                last = time.monotonic()
                while b"[DONE]" not in client.read():
                    gaps.append(time.monotonic() - last)
                    last = time.monotonic()
            assert len(gaps) > 20
            assert statistics.median(gaps) < 0.1
            for each in clients:
                each.close()
            eventually(lambda: not flood.open or None, "every stream is stopped at its worker")


def test_a_client_that_never_takes_is_cut_and_billed(flood: Flood, tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, configuration({"w0": flood.url}), program=program(tmp_path, 1.0)) as gateway:
        gateway.wait_up()
        with slow_client(gateway.port):
            (row,) = eventually(gateway.all_rows, "the attempt is in the ledger")
            eventually(lambda: not flood.open or None, "its worker is stopped")
            assert (row["outcome"], row["estimated"], row["worker"]) == ("aborted", 1, "w0")
            assert row["output_tokens"] > 100
            assert row["cost_nanousd"] > 0
            assert gateway.metric("tollgate_aborts_total", phase="streaming") == 1


def test_a_client_that_takes_slowly_is_served_to_the_end(tmp_path: Path) -> None:
    events = b"".join(b'data: {"model":"tiny@v1","choices":[{"index":%d}]}\n\n' % number for number in range(30_000))
    whole = events + b"data: [DONE]\n\n"
    script = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n%b" % (len(whole), whole)
    with ScriptedWorker(flood=script) as worker:
        written = configuration({"w0": worker.url})
        with GatewayProcess(tmp_path, written, program=program(tmp_path, 2.0, 1)) as gateway:
            gateway.wait_up()
            with slow_client(gateway.port) as client:
                got = b""
                while not got.endswith(b"0\r\n\r\n"):
                    got += client.recv(64 * 1024)
                    time.sleep(0.01)
            (row,) = eventually(gateway.all_rows, "the attempt is in the ledger")
            assert row["outcome"] == "ok"
            assert got.count(b"data: ") == 30_001
