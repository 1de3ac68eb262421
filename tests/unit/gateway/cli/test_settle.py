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

FLEET = "models: {m: {context: 10, versions: {v: {}}}}\nworkers:\n"
FLEET += "  - {name: w, engine: vllm, serves: m@v, url: 'http://h', gpu: g}\ngpus: {g: {hourly_usd: 1}}\ntenants: {}\n"


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Its journal is to lie where a file is."""
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "router_config"
    directory.mkdir()
    (tmp_path / "journal").write_text("")
    (directory / "a.yaml").write_text(
        f"{FLEET}ledger: sqlite:///{tmp_path}/ledger.db\nmetering: {{journal: {tmp_path}/journal}}\n"
    )
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
    assert f"tollgate: the journal {tmp_path}/journal cannot be written (" in capfd.readouterr().err


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
    assert f"the journal {tmp_path}/journal cannot be written (" in said
