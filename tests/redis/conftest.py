"""A real Redis for each test that wants one: its own process, port and directory, which the test may pause or kill."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.ports import reserved_port

READY_SECONDS = 10.0


class RedisServer:
    """One `redis-server` on 127.0.0.1."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.port = reserved_port()
        self._directory = directory
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"redis://{self.address}/0"

    def start(self) -> None:
        """Returns when it answers."""
        self._directory.mkdir(exist_ok=True)
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._directory)]
        command += ["--save", "", "--appendonly", "no", "--daemonize", "no", *self._options]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        asyncio.run(self._answers(self._process))

    async def _answers(self, process: subprocess.Popen[bytes]) -> None:
        async with asyncio.timeout(READY_SECONDS):
            while True:
                if process.poll() is not None:
                    pytest.fail(f"redis-server ended: {(self._directory / 'log').read_text()[-2000:]}")
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.01)
                    continue
                writer.close()
                await writer.wait_closed()
                return

    def client(self) -> Redis:
        """For the test's own looks and changes; a context manager."""
        return Redis(port=self.port, socket_timeout=READY_SECONDS)

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait(READY_SECONDS)
            self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()  # SIGKILL ends a paused process too
            self._process.wait(READY_SECONDS)
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@pytest.fixture(scope="session", autouse=True)
def _redis_is_installed() -> None:
    if shutil.which("redis-server") is None:
        pytest.fail("redis-server is not installed: `apt-get install redis-server` brings it")


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_cluster(tmp_path: Path) -> Iterator[list[RedisServer]]:
    """Two nodes that share the slots half and half."""
    with cluster(tmp_path) as nodes:
        yield nodes


@contextmanager
def cluster(directory: Path) -> Iterator[list[RedisServer]]:
    # The bus gets a port of its own, for Redis's choice (its port + 10000) may be anybody's.
    buses = [reserved_port() for _ in range(2)]
    nodes = [
        RedisServer(
            directory / f"node-{i}",
            *("--cluster-enabled", "yes", "--cluster-port", str(bus)),
            *("--cluster-require-full-coverage", "no"),
        )
        for i, bus in enumerate(buses)
    ]
    try:
        for node in nodes:
            node.start()
        with nodes[0].client() as first, nodes[1].client() as second:
            first.execute_command("CLUSTER ADDSLOTSRANGE 0 8191")
            second.execute_command("CLUSTER ADDSLOTSRANGE 8192 16383")
            first.execute_command(f"CLUSTER MEET 127.0.0.1 {nodes[1].port} {buses[1]}")
            asyncio.run(_agree([first, second]))
        yield nodes
    finally:
        for node in nodes:
            node.stop()


async def _agree(clients: list[Redis]) -> None:
    async with asyncio.timeout(READY_SECONDS):
        while True:
            try:
                infos = [str(client.execute_command("CLUSTER INFO")) for client in clients]
            except RedisConnectionError:
                infos = []
            if infos and all("cluster_state': 'ok'" in i and "cluster_slots_assigned': '16384'" in i for i in infos):
                return
            await asyncio.sleep(0.02)
