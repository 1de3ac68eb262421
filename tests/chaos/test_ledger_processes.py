"""Real gateways and settlers under real traffic, killed: what the worker says it did is in the ledger, once.

A worker has heard of every attempt whose row is no `crashed` one; and of what it has heard of there is a row.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from gateway.ledger.journal.reader import journals
from tests.chaos.patient_clients import Clients
from tests.eventually import eventually
from tests.gateway_process import GatewayProcess, configuration
from tests.live_worker import LiveWorker

ROUNDS = int(os.environ.get("TOLLGATE_CRASH_ROUNDS", "2"))  # of killing and starting again, in each test
DICE = random.Random(ROUNDS)
BETWEEN = 20  # answers from one death to the next, at least


@pytest.fixture
def worker():
    with LiveWorker(record=100_000) as worker:
        yield worker


def written(worker, directory, **changes):
    """Gateways of one ledger, wherever they run."""
    metering = {"journal": str(directory / "ledger.journal"), "readings": "200ms"}
    return configuration(
        {"w0": worker.url}, ledger=f"sqlite:///{directory / 'ledger.db'}", metering=metering, **changes
    )


def processes_of(gateway):
    """Its settler, and the other processes it has started."""
    pid = gateway.process.pid
    listed = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    settlers = [child for child in listed if b"gateway.settler" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return settlers, [child for child in listed if child not in settlers]


def wait_idle(directory):
    """Until no journal is left: every gateway has ended, one way or the other, and is settled."""
    eventually(lambda: not journals(directory / "ledger.journal") or None, "all journals are settled")


def check(directory, worker):
    """The rows of the ledger against what the worker did."""
    wait_idle(directory)
    worker.wait_idle()
    assert not list((directory / "ledger.journal").glob("damaged-*"))
    with closing(sqlite3.connect(directory / "ledger.db")) as connection:
        connection.row_factory = sqlite3.Row
        rows = [dict(row) for row in connection.execute("SELECT * FROM attempts")]
        sums = connection.execute(
            "SELECT SUM(requests), SUM(attempts), SUM(prompt_tokens), SUM(output_tokens), SUM(cost_nanousd) "
            "FROM rollups"
        ).fetchone()
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    done = worker.work()
    first = [row for row in rows if not row["correction"]]  # the audit corrects what was billed at its checkpoint
    asked = [row for row in first if row["tenant"] != "__probe__"]
    arrived, booked = Counter(name for name, _ in done), Counter(row["request_id"] for row in asked)
    assert not arrived - booked, "lost"
    never_sent = booked - arrived
    unsent = [row for row in asked if row["request_id"] in never_sent]
    assert {row["outcome"] for row in unsent} <= {"crashed", "failed", "aborted"}
    assert len({(row["attempt_id"], row["correction"]) for row in rows}) == len(rows)
    finals = Counter(row["request_id"] for row in first if row["final"])
    assert set(finals.values()) == {1}, "each request has one last attempt"
    assert finals.keys() == {row["request_id"] for row in rows}
    assert tuple(sums) == (
        len(finals),
        len(first),
        *(sum(row[name] for row in rows) for name in ("prompt_tokens", "output_tokens", "cost_nanousd")),
    )
    sent = dict(done)
    for row in asked:
        if row["outcome"] == "ok":
            assert row["output_tokens"] == sent[row["request_id"]], "an answer that was whole is billed as it was"
            assert not row["estimated"]
    return asked


def test_gateways_that_are_killed(worker, tmp_path):
    """Alone, and together with their settlers."""
    gateway = GatewayProcess(tmp_path, written(worker, tmp_path))
    killed = Counter()
    with Clients() as clients:
        for number in range(ROUNDS):
            gateway.start()
            clients.turn_to(gateway.port)
            clients.wait_for_more(BETWEEN + DICE.randrange(BETWEEN))
            settlers, _ = processes_of(gateway)
            if number % 2:
                for settler in settlers:
                    os.kill(settler, signal.SIGKILL)
                    killed["settler"] += 1
            gateway.process.kill()
            killed["gateway"] += 1
            gateway.wait()
        gateway.start()
        clients.turn_to(gateway.port)
        clients.wait_for_more(BETWEEN)
    gateway.stop()
    assert killed["settler"] > 0
    rows = check(tmp_path, worker)
    assert sum(row["outcome"] == "crashed" for row in rows) > 0
    assert sum(row["outcome"] == "ok" for row in rows) >= BETWEEN * ROUNDS
    assert not gateway.faults


def test_settlers_that_are_killed(worker, tmp_path):
    """Serving notices nothing, and nothing is late for long."""
    with GatewayProcess(tmp_path, written(worker, tmp_path)) as gateway:
        with Clients() as clients:
            clients.turn_to(gateway.port)
            for _ in range(ROUNDS):
                (settler,) = eventually(lambda: processes_of(gateway)[0] or None, "there is a settler")
                clients.wait_for_more(BETWEEN + DICE.randrange(BETWEEN))
                os.kill(settler, signal.SIGKILL)
                gone = (lambda one: lambda: one not in processes_of(gateway)[0] or None)(settler)
                eventually(gone, "the settler is gone")
            clients.wait_for_more(BETWEEN)
        assert clients.lost == 0
        count = len(worker.work())
        eventually(lambda: len(gateway.all_rows()) >= count or None, "the last settler has caught up")
    rows = check(tmp_path, worker)
    assert {row["outcome"] for row in rows} <= {"ok", "aborted"}


def test_a_ledger_that_is_away_is_not_missed(worker, tmp_path):
    """Serving goes on, and the metrics say how far behind the ledger is."""
    path, away = tmp_path / "ledger.db", tmp_path / "away.db"
    with GatewayProcess(tmp_path, written(worker, tmp_path)) as gateway:
        with Clients() as clients:
            clients.turn_to(gateway.port)
            clients.wait_for_more(BETWEEN)
            path.rename(away)
            eventually(lambda: gateway.metric("tollgate_ledger_away") or None, "it is said")
            clients.wait_for_more(5 * BETWEEN)
            lags = [
                eventually(lambda least=least: gateway.metric("tollgate_ledger_lag_seconds") > least or None, "it lags")
                for least in (0.5, 1.5)
            ]
            assert all(lags)
            assert gateway.metric("tollgate_ledger_queued") >= 4 * BETWEEN
            assert not path.exists()
            away.rename(path)
            eventually(lambda: not gateway.metric("tollgate_ledger_away") or None, "it is written again")
            clients.wait_for_more(BETWEEN)
        assert clients.lost == 0
        eventually(lambda: gateway.metric("tollgate_ledger_queued") == 0 or None, "it has caught up")
        assert gateway.metric("tollgate_ledger_lag_seconds") == 0
        assert gateway.metric("tollgate_ledger_dropped_total") == 0
    rows = check(tmp_path, worker)
    assert {row["outcome"] for row in rows} == {"ok"}


def test_two_gateways_on_one_ledger_of_which_one_is_killed(worker, tmp_path):
    """The other's settler settles what the dead one left, while it serves."""
    config = written(worker, tmp_path)
    with GatewayProcess(tmp_path / "a", config) as survivor:
        victim = GatewayProcess(tmp_path / "b", config)
        victim.start()
        with Clients() as clients, Clients() as others:
            clients.turn_to(survivor.port)
            others.turn_to(victim.port)
            others.wait_for_more(BETWEEN)
            for pid in (victim.process.pid, *processes_of(victim)[0]):
                os.kill(pid, signal.SIGKILL)
            victim.wait()
            eventually(lambda: len(journals(tmp_path / "ledger.journal")) == 1 or None, "the dead one's is settled")
            clients.wait_for_more(1)
        assert clients.lost == 0
    check(tmp_path, worker)


def test_one_of_two_processes_is_killed(worker, tmp_path):
    server = {"host": "127.0.0.1", "port": 4000, "drain_seconds": 5, "processes": 2}
    with GatewayProcess(tmp_path, written(worker, tmp_path, server=server)) as gateway:
        with Clients() as clients:
            clients.turn_to(gateway.port)
            clients.wait_for_more(BETWEEN)
            _, children = processes_of(gateway)
            os.kill(DICE.choice(children), signal.SIGKILL)
            clients.wait_for_more(BETWEEN)
    rows = check(tmp_path, worker)
    assert sum(row["outcome"] == "ok" for row in rows) >= 2 * BETWEEN
