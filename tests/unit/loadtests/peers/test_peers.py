"""The peers' configurations, and what happens to one that can not run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.config import load
from loadtests.peers import PEERS, Place, Running, Start, Unavailable
from loadtests.peers.base import LOCKS, MODEL, ROOT, launch, pinned, run_installer, stop
from loadtests.peers.nginx import Nginx
from loadtests.peers.tollgate import Tollgate, TollgatePair
from loadtests.procstat import descendants
from tests.eventually import eventually


def place(directory: Path) -> Place:
    return Place("http://127.0.0.1:9", 4321, directory)


class Scripted:
    """A peer that is a line of Python."""

    name = "scripted"
    streams = 0
    processes = 1

    def __init__(self, code: str, patience: float = 10.0) -> None:
        self.code, self.patience = code, patience

    def install(self) -> None: ...

    def start(self, place: Place) -> Start:
        return Start([sys.executable, "-c", self.code, str(place.port)], patience=self.patience)


SERVER = """
import http.server, sys
class Yes(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200); self.send_header("content-length", "0"); self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Yes).serve_forever()
"""


def test_names_are_different_and_locks_exist() -> None:
    names = [peer.name for peer in PEERS]
    assert len(set(names)) == len(names)
    for name in ("vllm-router", "sglang-router", "litellm"):
        lines = (LOCKS / f"peers-{name}.txt").read_text().splitlines()
        assert any(line.startswith(f"{name}==") for line in lines)
        assert all("==" in line for line in lines if not line.startswith("#"))


def test_the_gateways_configuration_is_valid(tmp_path: Path) -> None:
    start = Tollgate().start(place(tmp_path))
    assert start.headers == (("authorization", "Bearer sk-bench"),)
    table = load(tmp_path / "config")
    assert table.settings.server.processes == 1
    (tenant,) = table.tenants.values()
    assert None not in (tenant.limits.rpm, tenant.limits.tpm, tenant.limits.concurrency, tenant.budget)
    assert [route.name for route in table.routes] == ["bench"]
    assert table.settings.server.port == 4321
    assert [worker.url for worker in table.workers.values()] == ["http://127.0.0.1:9"]


def test_the_gateway_of_two_processes_has_a_name_of_its_own(tmp_path: Path) -> None:
    two = Tollgate(processes=2)
    two.start(place(tmp_path))
    assert (two.name, two.processes) == ("tollgate-2", 2)
    assert load(tmp_path / "config").settings.server.processes == 2


def test_two_gateways_are_started_and_stopped_together(tmp_path: Path) -> None:
    standin = [sys.executable, "-m", "loadtests.standin", "--model", MODEL]
    with subprocess.Popen(standin, cwd=ROOT, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        port = worker.stdout.readline().split()[1]
        pair = launch(TollgatePair(), f"http://127.0.0.1:{port}", tmp_path / "x", cores=())
        worker.terminate()
    assert pair.process is not None
    pids = descendants(pair.process.pid)
    assert len(pids) >= 2
    assert len(set(pair.target.ports)) == 2
    stop(pair)
    eventually(lambda: not [pid for pid in pids if Path(f"/proc/{pid}").exists()] or None, "both are gone")


def test_a_command_is_kept_on_its_cores() -> None:
    assert pinned(()) == []
    assert pinned((0, 3)) == ["taskset", "--cpu-list", "0,3"]


def test_nginx_writes_only_into_its_directory(tmp_path: Path) -> None:
    nginx = Nginx()
    try:
        nginx.install()
    except Unavailable as reason:
        pytest.skip(str(reason))
    nginx.start(place(tmp_path))
    text = (tmp_path / "nginx.conf").read_text()
    assert "listen 127.0.0.1:4321" in text
    assert "server 127.0.0.1:9;" in text
    paths = [line.split()[1] for line in text.splitlines() if "_path" in line or "pid " in line]
    assert len(paths) == 6
    assert all(path.startswith(str(tmp_path)) for path in paths)


def test_a_peer_that_answers_is_running_until_it_is_stopped(tmp_path: Path) -> None:
    running = launch(Scripted(SERVER), "http://127.0.0.1:9", tmp_path / "x", cores=())
    assert isinstance(running, Running)
    assert running.process is not None
    assert running.process.poll() is None
    stop(running)
    assert running.process.poll() is not None
    stop(running)  # once is enough, twice does no harm


def test_a_peer_that_ends_says_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="last in its log: I need a licence"):
        launch(Scripted("print('I need a licence')"), "http://127.0.0.1:9", tmp_path / "x", cores=())


def test_a_peer_that_never_answers_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    peer = Scripted("input = __import__('time').sleep(60)", patience=0.3)
    with pytest.raises(Unavailable, match=r"no answer within 0 s; last in its log: it said nothing"):
        launch(peer, "http://127.0.0.1:9", tmp_path / "x", cores=())


def test_an_installer_that_fails_is_a_reason() -> None:
    with pytest.raises(Unavailable, match="no such package"):
        run_installer([sys.executable, "-c", "import sys; sys.exit('no such package')"])


def test_the_configuration_files_are_plain_json(tmp_path: Path) -> None:
    Tollgate().start(place(tmp_path))
    fleet = json.loads((tmp_path / "config" / "fleet.yaml").read_text())
    assert fleet["workers"][0]["serves"] == "bench@v1"
