"""Workers that are killed, paused and added while requests run: the routing shows it within a second, and no client
sees an error that another worker could have spared it. Stand-ins in processes of their own, so that a signal can stop
them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.eventually import promised
from tests.gateway_process import ROOT, GatewayProcess, configuration
from tests.ports import reserved_port
from tests.wire.answers import request_id

SHOWS_WITHIN = 1.0
BODY = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


class Engine:
    """A stand-in as a process."""

    def __init__(self, port: int = 0) -> None:
        self._command = [sys.executable, "-m", "loadtests.standin", "--model", "tiny@v1", "--port", str(port)]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, cwd=ROOT, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().split()[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self, signum: int = signal.SIGKILL) -> None:
        self.process.send_signal(signum)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def site(path: Path, count: int = 2) -> Generator[tuple[GatewayProcess, list[Engine]]]:
    with ExitStack() as stack:
        engines = [Engine() for _ in range(count)]
        for engine in engines:
            stack.callback(engine.end)
        workers = {f"w{at}": engine.url for at, engine in enumerate(engines)}
        # Probes are far too rare to notice anything: what shows is shown by polls.
        written = configuration(workers, probe={"every": "30s", "wait": "20s", "load": "300ms"})
        gateway = stack.enter_context(GatewayProcess(path, written))
        gateway.wait_up()
        yield gateway, engines


def state(gateway: GatewayProcess, name: str) -> dict[str, object]:
    return next(worker for worker in gateway.admin("workers")["workers"] if worker["name"] == name)


def shown(gateway: GatewayProcess, name: str, key: str, value: object) -> None:
    promised(lambda: state(gateway, name)[key] == value or None, f"{name}: {key} is {value}", SHOWS_WITHIN)


def ask(client: httpx2.Client) -> str:
    answer = client.post("/v1/chat/completions", json=BODY, timeout=30.0)
    assert answer.status_code == 200, answer.text
    return answer.headers["x-tollgate-worker"]


@pytest.mark.timeout(60)
def test_a_paused_worker_gets_nothing_until_it_goes_on(tmp_path: Path) -> None:
    with site(tmp_path) as (gateway, (_, paused)), gateway.client() as client:
        paused.stop(signal.SIGSTOP)
        try:
            shown(gateway, "w1", "silent", True)
            assert {ask(client) for _ in range(20)} == {"w0"}
            assert state(gateway, "w1")["up"] is True  # no probe has noticed anything
            assert gateway.metric("tollgate_worker_silent", worker="w1") == 1
        finally:
            paused.stop(signal.SIGCONT)
        shown(gateway, "w1", "silent", False)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("stream", [False, True])
def test_what_a_paused_worker_has_not_begun_to_answer_is_answered_by_another(stream: bool, tmp_path: Path) -> None:
    with site(tmp_path) as (gateway, (_, paused)), gateway.client() as client:
        paused.stop(signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(16) as pool:  # before anybody has noticed
                sent = [
                    pool.submit(client.post, "/v1/chat/completions", json={**BODY, "stream": stream}, timeout=30.0)
                    for _ in range(16)
                ]
                answers = [one.result() for one in sent]
            assert {answer.status_code for answer in answers} == {200}
            moved = [answer for answer in answers if answer.headers["x-tollgate-attempts"] == "2"]
            assert moved
            assert {answer.headers["x-tollgate-worker"] for answer in answers} == {"w0"}
            first, second = gateway.rows(request_id(moved[0]), 2)
            assert (first["worker"], first["outcome"], second["worker"], second["outcome"]) == (
                "w1",
                "failed",
                "w0",
                "ok",
            )
            assert (first["prompt_tokens"], first["output_tokens"], first["cost_nanousd"]) == (0, 0, 0)
            line = gateway.wait_log(lambda line: line["event"] == "requests leave a silent worker")
            assert line["requests"] == len(moved)
        finally:
            paused.stop(signal.SIGCONT)


@pytest.mark.timeout(60)
def test_the_last_worker_is_asked_even_when_it_is_silent(tmp_path: Path) -> None:
    with site(tmp_path, count=1) as (gateway, (only,)), gateway.client() as client:
        only.stop(signal.SIGSTOP)
        shown(gateway, "w0", "silent", True)
        with pytest.raises(httpx2.ReadTimeout):  # it waits for it, and is not refused
            client.post("/v1/chat/completions", json=BODY, timeout=0.5)
        only.stop(signal.SIGCONT)
        assert ask(client) == "w0"


@pytest.mark.timeout(60)
def test_a_killed_worker_is_down_without_a_request_lost(tmp_path: Path) -> None:
    with site(tmp_path) as (gateway, (_, killed)), gateway.client() as client:
        killed.stop()
        began = time.monotonic()
        while time.monotonic() < began + SHOWS_WITHIN / 2:
            ask(client)
        shown(gateway, "w1", "up", False)
        assert {ask(client) for _ in range(20)} == {"w0"}


@pytest.mark.timeout(60)
def test_a_killed_worker_is_noticed_without_any_request(tmp_path: Path) -> None:
    with site(tmp_path) as (gateway, (_, killed)):
        killed.stop()
        shown(gateway, "w1", "up", False)


@pytest.mark.timeout(60)
def test_a_worker_that_starts_takes_requests_within_a_second(tmp_path: Path) -> None:
    port = reserved_port()
    with ExitStack() as stack:
        first = Engine()
        stack.callback(first.end)
        workers = {"w0": first.url, "w1": f"http://127.0.0.1:{port}"}
        written = configuration(workers, probe={"every": "30s", "wait": "20s", "load": "300ms"})
        gateway = stack.enter_context(GatewayProcess(tmp_path, written))
        gateway.wait_up("w0")
        assert state(gateway, "w1")["up"] is False
        second = Engine(port)
        stack.callback(second.end)
        shown(gateway, "w1", "up", True)
        assert state(gateway, "w1")["warming_up"] is True
        first.stop()
        with gateway.client() as client:
            assert ask(client) in ("w0", "w1")
            shown(gateway, "w0", "up", False)
            assert ask(client) == "w1"
