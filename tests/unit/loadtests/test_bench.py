"""A whole bench, as small as it gets: no peers but the worker itself."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests import bench
from loadtests.client import Target
from loadtests.figures import FIGURES, Effort, Figure
from loadtests.peers import PEERS, Place, Running, Start
from loadtests.peers.direct import Direct

ANSWERS_ONCE = """
import http.server, sys
class Once(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200); self.send_header("content-length", "0"); self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Once).handle_request()
"""


class Mortal:
    """A relay that answers one request and is gone."""

    name = "mortal"
    streams = 5
    processes = 1

    def install(self) -> None: ...

    def start(self, place: Place) -> Start:
        return Start([sys.executable, "-c", ANSWERS_ONCE, str(place.port)])


FORWARDS = """
import http.server, sys, urllib.request
class Forward(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {"content-type": "application/json"}
        answer = urllib.request.urlopen(urllib.request.Request(sys.argv[2] + self.path, body, headers)).read()
        self.send_response(200); self.send_header("content-length", str(len(answer))); self.end_headers()
        self.wfile.write(answer)
http.server.ThreadingHTTPServer.request_queue_size = 100  # or the kernel lets most clients wait for seconds
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Forward).serve_forever()
"""


class Late:
    """A relay that is started after the streams that hardly move."""

    name = "tollgate-2"
    streams = 0
    processes = 2

    def install(self) -> None: ...

    def start(self, place: Place) -> Start:
        return Start([sys.executable, "-c", FORWARDS, str(place.port), place.worker_url])


def only(monkeypatch: pytest.MonkeyPatch, *figures: Figure) -> None:
    """Measures no others, and judges none."""
    monkeypatch.setattr(bench, "FIGURES", figures)
    monkeypatch.setattr(bench, "GOALS", ())


def test_what_starts_last_finds_a_worker_that_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "QUICK", Effort(repetitions=1, seconds=0.05, streams=5, many=20))
    monkeypatch.setattr(bench, "PEERS", (Direct(), Late()))
    only(monkeypatch, *FIGURES[-2:])
    monkeypatch.setattr("sys.argv", ["bench", "--quick", "--only", "direct", "tollgate-2", "--out", str(tmp_path)])
    bench.main()
    assert "tollgate-2: no answer" not in capsys.readouterr().out


def test_who_runs_where() -> None:
    one = bench.Cores.among([0])
    assert (one.relay, one.worker, one.generator) == ((), (), ())
    two = bench.Cores.among([0, 1])
    assert (two.relay, two.two_relays, two.worker, two.generator) == ((0,), (0,), (1,), (1,))
    four = bench.Cores.among([0, 1, 2, 3])
    assert (four.relay, four.two_relays, four.worker, four.generator) == ((0,), (0, 1), (2,), (3,))


def test_gateways_of_several_processes_are_started_last_and_only_for_their_figure() -> None:
    (early, first), (late, last) = bench._stages(PEERS)  # pyright: ignore[reportPrivateUsage]
    assert [figure.key for figure in late] == ["processes"]
    assert [peer.name for peer in last] == ["tollgate-2", "tollgate-pair"]
    assert len(early) + len(late) == len(FIGURES)
    assert len(first) + len(last) == len(PEERS)
    (_, alone), (nothing, nobody) = bench._stages(PEERS[:1])  # pyright: ignore[reportPrivateUsage]
    assert ([peer.name for peer in alone], nothing, nobody) == (["direct"], [], [])


def test_a_peer_that_dies_is_left_out_and_does_not_end_the_bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "QUICK", Effort(repetitions=1, seconds=0.05, streams=5, many=20))
    monkeypatch.setattr(bench, "PEERS", (Direct(), Mortal()))
    only(monkeypatch, FIGURES[0])
    monkeypatch.setattr("sys.argv", ["bench", "--quick", "--only", "direct", "mortal", "--out", str(tmp_path)])
    assert bench.main() == 0
    out = capsys.readouterr().out
    assert "mortal, non-stream, 32 connections, repetition 1: left out: " in out


def test_it_measures_prints_and_keeps_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cores = os.sched_getaffinity(0)
    monkeypatch.setattr(bench, "QUICK", Effort(repetitions=2, seconds=0.05, streams=5, many=20))
    monkeypatch.setattr("sys.argv", ["bench", "--quick", "--only", "direct", "--out", str(tmp_path)])
    assert bench.main() == 0  # what was not measured is not missed
    assert os.sched_getaffinity(0) == cores
    out = capsys.readouterr().out
    assert "non-stream, 32 connections: requests/s" in out
    assert "not measured" in out
    (results,) = tmp_path.glob("*.json")
    document = json.loads(results.read_text())
    first = [run for run in document["runs"] if run["figure"] == "throughput"]
    assert [run["repetition"] for run in first] == [0, 1]
    assert first[0]["requests_per_second"] > 0
    assert {verdict["outcome"] for verdict in document["verdicts"]} == {"not measured"}


WORKS_ON = """
import time
while time.process_time() < 1.5:
    pass
print("at rest", flush=True)
input()
"""


def test_what_a_relay_still_works_on_is_waited_for_and_told() -> None:
    with subprocess.Popen([sys.executable, "-c", WORKS_ON], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        one = Running(Direct(), Target("http://127.0.0.1"), process)
        took = asyncio.run(bench._until_it_rests(one))  # pyright: ignore[reportPrivateUsage]
        assert process.stdout is not None
        assert process.stdout.readline() == b"at rest\n"
        assert 0.5 < took < 2.0
        assert asyncio.run(bench._until_it_rests(one)) < 0.1  # pyright: ignore[reportPrivateUsage]
        process.kill()
    assert asyncio.run(bench._until_it_rests(Running(Direct(), Target("http://127.0.0.1"), None))) == 0.0  # pyright: ignore[reportPrivateUsage]
