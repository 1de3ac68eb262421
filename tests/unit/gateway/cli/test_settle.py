"""`tollgate settle`, and the process a gateway starts: what they say where they can not work."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import gateway
from gateway.cli import main
from gateway.config import load
from gateway.settler.orders import Orders
from gateway.settler.status import read_status
from tests.eventually import eventually
from tests.ports import reserved_port

FLEET = "models: {m: {context: 10, versions: {v: {}}}}\nworkers:\n"
FLEET += "  - {name: w, engine: vllm, serves: m@v, url: 'http://h', gpu: g}\ngpus: {g: {hourly_usd: 1}}\ntenants: {}\n"


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Its journal is to lie where a file is."""
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "router_config"
    directory.mkdir()
    (tmp_path / "ledger.journal").write_text("")
    (directory / "a.yaml").write_text(f"{FLEET}ledger: sqlite:///{tmp_path}/ledger.db\n")
    return directory


@pytest.fixture
def signals():
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
def test_a_journal_that_is_no_directory_is_told(config, tmp_path, capfd):
    assert main(["settle"]) == 1
    assert f"tollgate: the journal {tmp_path}/ledger.journal cannot be written (" in capfd.readouterr().err


def test_the_process_beside_a_gateway_says_it_in_one_line(config, tmp_path):
    inside, outside = os.pipe()
    environment = {**os.environ, "PYTHONPATH": str(Path(gateway.__file__).parent.parent)}
    with subprocess.Popen(
        [sys.executable, "-m", "gateway.settler", str(outside)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=[outside],
        env=environment,
    ) as process:
        process.stdin.write(Orders.of(load(config)).line())
        process.stdin.flush()
        said = process.stdout.read().decode()  # while its standard input is open, as a gateway's is
        assert process.wait(10) == 1
    os.close(inside)
    os.close(outside)
    assert len(said.splitlines()) == 1
    assert f"the journal {tmp_path}/ledger.journal cannot be written (" in said


@pytest.mark.parametrize(
    ("ledger", "said"),
    [
        ("postgresql://h", "names no PostgreSQL host and database"),
        ("postgresql://h/d?hots=1", "did you mean `host`?"),
        ("sqlite:////dev/null/ledger.db", "`/dev/null` is no directory"),
    ],
)
def test_a_ledger_that_can_never_be_is_not_waited_for(config, ledger, said, capfd):
    (config / "a.yaml").write_text(f"{FLEET}ledger: '{ledger}'\n")
    assert main(["settle"]) == 1
    assert said in capfd.readouterr().err


def test_a_database_that_is_away_is_waited_for(config, tmp_path):
    url = f"postgresql://u:s3cr3t@127.0.0.1:{reserved_port()}/ledger"
    (config / "a.yaml").write_text(f"{FLEET}ledger: {url}\nmetering: {{journal: {tmp_path}/new}}\n")
    environment = {**os.environ, "PYTHONPATH": str(Path(gateway.__file__).parent.parent)}
    with subprocess.Popen(
        [sys.executable, "-m", "gateway.cli", "settle"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
    ) as process:
        first = process.stdout.readline().decode()
        eventually(lambda: read_status(tmp_path / "new").last_error, "the status says why nothing is settled")
        at = read_status(tmp_path / "new").at
        eventually(lambda: read_status(tmp_path / "new").at > at, "it tries again")
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read().decode()
        assert process.wait(10) == 1
    assert "see that PostgreSQL runs" in first
    assert "Records wait in the journal" in first
    assert "s3cr3t" not in first
    assert rest == "", "said once"
