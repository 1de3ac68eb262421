"""A PostgreSQL server of the tests' own: its cluster, port and directory, which a test may pause or kill."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from tests.eventually import eventually
from tests.ports import reserved_port

USER, PASSWORD = "owner", "s3cr3t-of-the-owner"
END_SECONDS = 20.0
_DEBIAN = Path("/usr/lib/postgresql")
_OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "unix_socket_directories": "",
    "log_min_messages": "warning",
}


def program(name: str) -> str | None:
    """Debian keeps PostgreSQL's programs out of the PATH."""
    found = sorted(_DEBIAN.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(found[-1]) if found else shutil.which(name)


class PostgresServer:
    def __init__(self) -> None:
        self.port = reserved_port()
        # PostgreSQL does not run as root, and tests of root keep others out of their directories.
        self._account = "postgres" if os.getuid() == 0 else None
        self._directory = Path(tempfile.mkdtemp(prefix="tollgate-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None
        if self._account:
            shutil.chown(self._directory, self._account)
        password = self._directory / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        command = ["initdb", "--no-sync", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256"]
        command += [f"--username={USER}", f"--pwfile={password}", str(self._directory / "data")]
        subprocess.run(
            [program("initdb") or "initdb", *command[1:]],
            check=True,
            user=self._account,
            stdout=subprocess.DEVNULL,
            cwd=self._directory,
        )

    def url(self, database: str, password: str = PASSWORD) -> str:
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Returns when it answers."""
        command = [program("postgres") or "postgres", "-D", str(self._directory / "data"), "-p", str(self.port)]
        command += [
            "-h",
            "127.0.0.1",
            *(part for name, value in _OPTIONS.items() for part in ("-c", f"{name}={value}")),
        ]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, user=self._account, stdout=log, stderr=log, cwd=self._directory)
        eventually(self._answers, "PostgreSQL answers")

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """For the test's own looks and changes."""
        return psycopg.connect(self.url(database), autocommit=True, connect_timeout=5)

    @contextmanager
    def paused(self) -> Iterator[None]:
        processes = self._processes()
        try:
            for process in processes:
                os.kill(process, signal.SIGSTOP)
            yield
        finally:
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)

    def kill(self) -> None:
        """All at once, as a power cut does."""
        for process in self._processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if self._process is not None:
            self._process.wait(END_SECONDS)
            self._process = None

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._directory / "log").read_text()[-2000:]
        with suppress(psycopg.OperationalError):
            self.connect().close()
            return True
        return False

    def _processes(self) -> list[int]:
        """The postmaster first: it starts no others then."""
        if self._process is None or self._process.poll() is not None:
            return []
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return [self._process.pid, *map(int, children)]
