"""`tollgate settle` whose PostgreSQL is away when it starts, and comes later."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import gateway
from gateway.ledger.journal.writer import Journal
from gateway.ledger.opening import open_books
from gateway.settler.status import read_status
from tests.eventually import eventually
from tests.ledger_site import row
from tests.postgres.server import PostgresServer

FLEET = "models: {m: {context: 10, versions: {v: {}}}}\nworkers:\n"
FLEET += "  - {name: w, engine: vllm, serves: m@v, url: 'http://h', gpu: g}\ngpus: {g: {hourly_usd: 1}}\ntenants: {}\n"


def test_it_waits_and_says_when_the_database_is_there(tmp_path: Path, postgres: PostgresServer, url: str) -> None:
    root = tmp_path / "journals"
    root.mkdir()
    journal = Journal(root, "me", max_bytes=1 << 24)
    journal.append("settle", row(7))
    journal.close()
    directory = tmp_path / "router_config"
    directory.mkdir()
    (directory / "a.yaml").write_text(f"{FLEET}ledger: {url}\nmetering: {{journal: {root}}}\n")
    is_back = False
    postgres.kill()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", "settle"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(gateway.__file__).parent.parent)},
        )
        with process:
            assert process.stdout is not None
            away = process.stdout.readline().decode()
            eventually(lambda: read_status(root).last_error, "the status says why nothing is settled")
            postgres.start()
            is_back = True
            eventually(lambda: read_status(root).settled, "what waited is settled")
            process.send_signal(signal.SIGTERM)
            rest = process.stdout.read().decode()
            assert process.wait(10) == 0
    finally:
        if not is_back:
            postgres.start()
    assert "see that PostgreSQL runs" in away
    assert rest.count("the ledger is there again") == 1
    assert rest.count("Records wait in the journal") <= 1, "besides, that it is starting"
    assert open_books(url).spent("support", 0) == 7
