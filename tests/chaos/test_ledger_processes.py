"""Real gateways and settlers under real traffic, killed: what the worker says it did is in the ledger, once."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter

import pytest

from gateway.ledger.journal.reader import journals
from tests.eventually import eventually
from tests.gateway_process import GatewayProcess, configuration
from tests.ledger_processes import check, processes_of
from tests.live_worker import LiveWorker
from tests.patient_clients import Clients

ROUNDS = int(os.environ.get("TOLLGATE_CRASH_ROUNDS", "2"))  # of killing and starting again, in each test
DICE = random.Random(ROUNDS)
BETWEEN = 20  # answers from one death to the next, at least


@pytest.fixture
def worker():
    with LiveWorker(record=100_000) as worker:
        yield worker


def ledger(directory):
    return f"sqlite:///{directory / 'ledger.db'}"


def written(worker, directory, **changes):
    """Gateways of one ledger, wherever they run."""
    metering = {"journal": str(directory / "ledger.journal"), "readings": "200ms"}
    return configuration({"w0": worker.url}, ledger=ledger(directory), metering=metering, **changes)


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
    rows = check(tmp_path, worker, ledger(tmp_path))
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
    rows = check(tmp_path, worker, ledger(tmp_path))
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
    rows = check(tmp_path, worker, ledger(tmp_path))
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
    check(tmp_path, worker, ledger(tmp_path))


def test_one_of_two_processes_is_killed(worker, tmp_path):
    server = {"host": "127.0.0.1", "port": 4000, "drain_seconds": 5, "processes": 2}
    with GatewayProcess(tmp_path, written(worker, tmp_path, server=server)) as gateway:
        with Clients() as clients:
            clients.turn_to(gateway.port)
            clients.wait_for_more(BETWEEN)
            _, children = processes_of(gateway)
            os.kill(DICE.choice(children), signal.SIGKILL)
            clients.wait_for_more(BETWEEN)
    rows = check(tmp_path, worker, ledger(tmp_path))
    assert sum(row["outcome"] == "ok" for row in rows) >= 2 * BETWEEN
