"""`tollgate audit`: as a table and as JSON, and what it ends with."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from gateway.cli import main
from gateway.ledger.record import Attempt, Reading
from gateway.ledger.sqlite import SqliteStore
from gateway.ledger.store import Batch
from tests.live_worker import LiveWorker
from tests.unit.gateway.audit.rows import attempt, broken_off, reading

NOW = time.time()
STARTED = NOW - 5_000


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return written(tmp_path, "http://127.0.0.1:1")


def written(directory: Path, url: str) -> Path:
    made = directory / "router_config"
    made.mkdir(exist_ok=True)
    document = {
        "ledger": "sqlite:///ledger.db",
        "metering": {"readings": "200ms"},
        "models": {"tiny": {"context": 1024, "versions": {"v1": {}}}},
        "gpus": {"cpu": {"hourly_usd": 1}},
        "workers": [{"name": "w", "engine": "vllm", "serves": "tiny@v1", "gpu": "cpu", "url": url}],
    }
    (made / "all.yaml").write_text(json.dumps(document))
    return made


def ledger(*kept: Attempt | Reading) -> None:
    store = SqliteStore(Path("ledger.db"))
    store.write(
        Batch([one for one in kept if isinstance(one, Attempt)], [one for one in kept if isinstance(one, Reading)])
    )
    store.close()


def seen(ago: float, prompt: int, output: int) -> Reading:
    return reading(NOW - ago, prompt, output, engine_started=STARTED)


def audit(*arguments: str) -> int:
    return main(["audit", "--config", "router_config", *arguments])


def test_what_agrees_ends_well(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger(
        seen(900, 0, 0), attempt(1, NOW - 800, 2, 6_000, 400), broken_off(2, NOW - 790, 2, 90, 9), seen(700, 6_096, 420)
    )
    assert audit("--format", "json") == 0
    told = json.loads(capsys.readouterr().out)
    (worker,) = told["workers"]
    assert told["alarm"] == 0.001
    assert {name: worker[name] for name in ("worker", "engine", "ledger", "corrected", "drift", "estimated")} == {
        "worker": "w",
        "engine": 6_516,
        "ledger": 6_499,
        "corrected": 17,
        "drift": 0,
        "estimated": 1,
    }
    assert audit() == 0
    table = capsys.readouterr().out
    assert "6,516" in table
    assert "+17" in table


def test_drift_above_the_alarm_ends_with_1(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger(seen(900, 0, 0), attempt(1, NOW - 800, 2, 6_000, 400), seen(700, 7_000, 400))
    assert audit() == 1
    assert "13.514% !" in capsys.readouterr().out
    assert audit("--since", "10m") == 0  # it was before


def test_time_that_lies_ahead_is_wrong_usage(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger(seen(900, 0, 0))
    assert audit("--since", "9999-11-03") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "--since lies ahead: " in captured.err


def test_a_worker_there_is_not_is_wrong_usage(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger()
    assert audit("--worker", "x") == 2
    assert "--worker x: write one of w" in capsys.readouterr().err
    assert audit("--worker", "w") == 0


def test_without_a_ledger_it_says_so(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit() == 1
    assert "there is no ledger" in capsys.readouterr().err


def test_it_asks_the_workers_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reading that no gateway has made yet; those there were are gone, and their journals settled."""
    monkeypatch.chdir(tmp_path)
    with LiveWorker() as worker:
        written(tmp_path, worker.url)
        ledger(reading(NOW - 900, 0, 0, engine_started=0.0))
        assert audit("--now", "--format", "json") == 0
        (told,) = json.loads(capsys.readouterr().out)["workers"]
        assert told["exact_through"] >= NOW
    assert audit("--now") == 0  # as of the last reading there is
    assert "it cannot be reached" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({}, "the gateway process g2 has not been heard of for 6"),
        ({"in_flight": 3}, "the gateway process g2 had requests under way there (3, 6"),
    ],
)
def test_it_says_whom_it_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], other: dict[str, int], why: str
) -> None:
    """Another process whose journal is still there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gateway.cli.audit.PATIENCE_SECONDS", 0.1)
    (tmp_path / "ledger.journal" / "g2").mkdir(parents=True)
    (tmp_path / "ledger.journal" / "g2" / "owner").touch()
    with LiveWorker() as worker:
        written(tmp_path, worker.url)
        ledger(reading(time.time() - 60, 0, 0, engine_started=0.0, source="g2", **other))
        assert audit("--now") == 0
    said = capsys.readouterr().err
    assert f"worker w: {why}" in said
    assert "so compared as of its last quiet moment" in said


def test_it_says_that_the_engine_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with LiveWorker() as worker, ThreadPoolExecutor(1) as pool:
        worker.behave(header_delay=30.0)
        written(tmp_path, worker.url)
        ledger(reading(NOW - 900, 0, 0, engine_started=0.0))
        body = {"model": "tiny@v1", "prompt": "past the gateway", "max_tokens": 5}
        asked = pool.submit(lambda: httpx2.post(f"{worker.url}/v1/completions", json=body, timeout=30))
        worker.wait_for(active=1)
        assert audit("--now") == 0
        worker.release()
        assert asked.result().status_code == 200
    assert "worker w: its engine is busy (1 running, 0 waiting), so compared" in capsys.readouterr().err
