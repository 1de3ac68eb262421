"""Gateways over one PostgreSQL of which one ends: an audit waits for it if it was killed, and not if it said so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.ledger.audits import LAST
from gateway.ledger.opening import open_books
from tests.eventually import eventually
from tests.gateway_process import ROOT, GatewayProcess, configuration
from tests.live_worker import LiveWorker


def sources(url: str) -> dict[str, int]:
    """`busy_ns` of each process's latest reading."""
    with open_books(url).snapshot() as ledger:
        rows = ledger.rows("SELECT source, busy_ns FROM readings WHERE worker = 'w' ORDER BY at")
    return {str(source): int(busy_ns) for source, busy_ns in rows}


def audit(gateway: GatewayProcess) -> str:
    """What `tollgate audit --now` complains of."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "audit", "--now", "--config", str(gateway.config)],
        capture_output=True,
        cwd=gateway.directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.decode()


@pytest.mark.parametrize("killed", [False, True])
def test_an_audit_beside_a_gateway_that_has_ended(tmp_path: Path, url: str, killed: bool) -> None:
    with LiveWorker() as worker:
        stays, ends = [
            GatewayProcess(
                tmp_path / name,
                configuration(
                    {"w": worker.url},
                    ledger=url,
                    metering={"journal": str(tmp_path / name / "ledger.journal"), "readings": "200ms"},
                ),
            )
            for name in ("stays", "ends")
        ]
        with stays, ends:
            stays.wait_up("w")
            ends.wait_up("w")
            eventually(lambda: len(sources(url)) == 2 or None, "both have read the worker")
            if killed:
                for pid in (ends.process.pid, ends.settler):
                    os.kill(pid, signal.SIGKILL)
                ends.wait()
            else:
                ends.stop()
                assert sorted(busy == LAST for busy in sources(url).values()) == [False, True]
            complaint = audit(stays)
    if killed:
        assert "has not been heard of for" in complaint
        assert "did not say that it ends" in complaint
    else:
        assert complaint == ""
