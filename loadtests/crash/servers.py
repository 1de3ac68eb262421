"""Redis and PostgreSQL of the run's own, in a directory and at ports of their own, gone at its end."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from redis import Redis
from redis.exceptions import ConnectionError as NoConnection

READY_SECONDS = 20.0
USER = "owner"
_OPTIONS = {  # a killed client is what is tried here, not a killed server
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "synchronous_commit": "off",
    "shared_buffers": "64MB",
    "unix_socket_directories": "",
    "max_connections": "40",
}


@contextmanager
def redis_server(scratch: Path) -> Generator[str]:
    """Its URL."""
    with _port() as port:
        directory = scratch / "redis-data"
        directory.mkdir()
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory)]
        command += ["--save", "", "--appendonly", "no"]
        url = f"redis://127.0.0.1:{port}/0"
        with _running(command, lambda: _redis_answers(url)):
            yield url


@contextmanager
def postgres_server(scratch: Path) -> Generator[str]:
    """The URL of its database `postgres`."""
    account = "postgres" if os.getuid() == 0 else None  # it does not run as root
    directory = scratch / "postgres-data"
    directory.mkdir()
    if account:
        for above in (scratch, scratch.parent):  # a temporary directory is its user's alone
            above.chmod(0o711)
        shutil.chown(directory, account)
    initdb = [_program("initdb"), "--no-sync", "--encoding=UTF8", "--locale=C", "--auth=trust", f"--username={USER}"]
    subprocess.run(
        [*initdb, str(directory / "data")], check=True, user=account, stdout=subprocess.DEVNULL, cwd=directory
    )
    with _port() as port:
        command = [_program("postgres"), "-D", str(directory / "data"), "-p", str(port), "-h", "127.0.0.1"]
        command += [part for name, value in _OPTIONS.items() for part in ("-c", f"{name}={value}")]
        url = f"postgresql://{USER}@127.0.0.1:{port}/postgres"
        with _running(command, lambda: _postgres_answers(url), account, directory):
            yield url


def _program(name: str) -> str:
    """Debian keeps PostgreSQL's programs out of the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(found[-1]) if found else name


@contextmanager
def _port() -> Generator[int]:
    """Bound and never listening, it keeps the port from everybody but a server that sets SO_REUSEADDR."""
    with socket.socket() as reservation:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind(("127.0.0.1", 0))
        yield reservation.getsockname()[1]


@contextmanager
def _running(
    command: list[str], answers: Callable[[], bool], account: str | None = None, directory: Path | None = None
) -> Generator[None]:
    nothing = subprocess.DEVNULL
    process = subprocess.Popen(command, user=account, stdout=nothing, stderr=nothing, cwd=directory)
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not start")
            time.sleep(0.02)
        yield
    finally:
        process.kill()
        process.wait()


def _redis_answers(url: str) -> bool:
    with suppress(NoConnection), Redis.from_url(url) as client:  # pyright: ignore[reportUnknownMemberType]
        return bool(client.ping())  # pyright: ignore[reportUnknownMemberType]
    return False


def _postgres_answers(url: str) -> bool:
    with suppress(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=2).close()
        return True
    return False
