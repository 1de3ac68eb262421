"""`tollgate up`: the gateway and its workers live and die together, whoever is killed."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.launching import Site, environment
from tests.eventually import WITHIN, eventually
from tests.ports import reserved_port


class Up:
    """The running command and what it says to the person at the terminal."""

    def __init__(self, site: Site, port: int) -> None:
        self.port = port
        command = [sys.executable, "-m", "gateway.cli", "up", "--config", str(site.write()), "--port", str(port)]
        self.log = (site.root / "gateway.log").open("wb")
        self.process = subprocess.Popen(
            command,
            stdout=self.log,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd=site.root,
            env=environment(str(site.python)) | {"TOLLGATE_TEST_MARK": site.mark},
        )
        self._said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def until_said(self, pattern: str) -> re.Match[str]:
        def found() -> re.Match[str] | None:
            ended = not self._reader.is_alive()
            match = re.search(pattern, self.said, re.MULTILINE)
            assert match or not ended, f"it ended without saying {pattern!r}:\n{self.said}"
            return match

        return eventually(found, f"it says {pattern!r}")

    @property
    def said(self) -> str:
        return "".join(self._said)

    def interrupt(self) -> None:
        """Ctrl-C: the terminal sends it to the whole process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def status(self) -> int:
        status = self.process.wait(WITHIN)
        self._reader.join(WITHIN)
        return status

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        return self.ask("GET", path, None, headers)

    def ask(self, method: str, path: str, body: object, headers: dict[str, str]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WITHIN)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def answers(self, path: str, status: int) -> bool:
        try:
            return self.get(path)[0] == status
        except OSError:
            return False

    def close(self) -> None:
        self.process.kill()
        self.process.wait(WITHIN)
        self._reader.join(WITHIN)
        assert self.process.stderr is not None
        self.process.stderr.close()
        self.log.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._said.append(line)


Start = Callable[[], Up]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.expect_nothing_left()


@pytest.fixture
def up(site: Site) -> Iterator[Start]:
    running: list[Up] = []

    def start() -> Up:
        running.append(Up(site, reserved_port()))
        return running[-1]

    yield start
    for process in running:
        process.close()


def launcher_of(site: Site) -> int:
    [pid] = [pid for pid, command in site.processes().items() if "workers.cli launch" in command]
    return pid


def test_what_it_says_can_be_pasted(site: Site, up: Start) -> None:
    site.worker("w")
    running = up()
    url = running.until_said(r"^  export OPENAI_BASE_URL=(\S+)$")[1]
    key = running.until_said(r"^  export OPENAI_API_KEY=(\S+)")[1]
    model = running.until_said(r"^  models   (\S+)$")[1]
    assert url == f"http://127.0.0.1:{running.port}/v1"
    assert running.answers("/readyz", 200)
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    status, answer = running.ask("POST", "/v1/completions", {"model": model, "prompt": "Hello"}, headers)
    assert (status, json.loads(answer)["choices"][0]["text"]) == (200, "fake")
    for where in (
        r"config   \S+/router_config/",
        r"logs     var/log/workers/NAME.log",
        r"ledger   sqlite:///var/ledger.db",
    ):
        running.until_said(where)


def test_it_serves_before_the_workers_are_there(site: Site, up: Start) -> None:
    site.worker("w", FAKE_SILENT="1")
    running = up()
    eventually(lambda: running.answers("/healthz", 200), "the gateway answers")
    assert running.answers("/readyz", 503)
    running.interrupt()
    assert running.status() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_its_workers(site: Site, up: Start, number: signal.Signals) -> None:
    site.worker("w", FAKE_OFFSPRING="1")
    running = up()
    running.until_said("Tollgate is ready")
    os.killpg(running.process.pid, number)
    assert running.status() == 0
    assert not site.processes()
    assert "launcher" not in running.said


def test_a_second_ctrl_c_is_safe(site: Site, up: Start) -> None:
    site.worker("w", FAKE_SLOW="3", FAKE_OFFSPRING="1")
    running = up()
    running.until_said("Tollgate is ready")
    running.interrupt()
    running.until_said("worker w: stopping")
    running.interrupt()
    running.interrupt()
    assert running.status() == 0
    assert not site.processes()


def test_a_signal_while_everything_still_starts(site: Site, up: Start) -> None:
    site.worker("w")
    running = up()
    running.until_said("starting 1 workers")
    running.process.terminate()
    assert running.status() == 0


def test_kill_9_takes_the_workers_along(site: Site, up: Start) -> None:
    site.worker("w", FAKE_OFFSPRING="1")
    running = up()
    running.until_said("Tollgate is ready")
    running.process.kill()
    site.expect_nothing_left()


def test_when_the_launcher_is_killed_the_gateway_says_so_and_ends(site: Site, up: Start) -> None:
    site.worker("w", FAKE_OFFSPRING="1")
    running = up()
    running.until_said("Tollgate is ready")
    os.kill(launcher_of(site), signal.SIGKILL)
    assert running.status() == 1
    assert "the launcher of the workers ended with status -9" in running.said


def test_the_gateway_serves_what_runs_and_says_what_does_not(site: Site, up: Start) -> None:
    site.worker("good")
    site.worker("bad", FAKE_EXIT="3")
    running = up()
    running.until_said("^not running: bad: exited with status 3; see var/log/workers/bad.log$")
    running.until_said("export OPENAI_BASE_URL")
    assert "  | RuntimeError: the fake engine has no weights" in running.said
    assert running.answers("/readyz", 200)


def test_without_any_worker_left_it_ends(site: Site, up: Start) -> None:
    site.worker("w", FAKE_EXIT="3")
    running = up()
    assert running.status() == 1
    assert "worker w: failed: exited with status 3" in running.said


def test_what_can_not_be_launched_is_told(site: Site, up: Start) -> None:
    site.worker("w")
    (site.root / "registry/tiny/base/config.json").unlink()
    running = up()
    assert running.status() == 1
    assert "tollgate-worker demo-models" in running.said


def test_a_gateway_port_in_use_leaves_no_worker_behind(site: Site, up: Start) -> None:
    site.worker("w")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        running = Up(site, other.getsockname()[1])
        try:
            assert running.status() == 1
        finally:
            running.close()
    assert not site.processes()


def test_a_fleet_without_launches_is_only_served(site: Site, up: Start) -> None:
    site.worker("w")
    del site.workers["w"]["launch"]
    site.workers["w"]["url"] = "http://127.0.0.1:9"
    running = up()
    running.until_said("no worker has `launch:`")
    eventually(lambda: running.answers("/healthz", 200), "the gateway answers")
    running.interrupt()
    assert running.status() == 0
