"""`tollgate report`: the ledger's sums as a table, as CSV and as JSON, for the time asked for."""

import csv
import io
import json
import time
from argparse import ArgumentTypeError

import pytest

from gateway.cli import main
from gateway.cli.report import moment
from gateway.ledger.record import Attempt
from gateway.ledger.writer import open_ledger

DAY = 86_400.0
NOVEMBER = 1_793_491_200.0  # 2026-11-01T00:00Z


def attempt(number, tenant, at, cost):
    return Attempt(
        attempt_id=f"r{number}.1",
        request_id=f"r{number}",
        started_at=at,
        tenant=tenant,
        key_id="prod",
        endpoint="chat.completions",
        model_asked="chat",
        model="chat-8b",
        version="fp8",
        adapter="",
        route="direct",
        worker="w",
        outcome="ok",
        status=200,
        prompt_tokens=10,
        cached_tokens=4,
        output_tokens=5,
        estimated=False,
        ttft_seconds=0.1,
        duration_seconds=0.5,
        gpu_seconds=0.25,
        cost_nanousd=cost,
        cost_basis="gpu_time",
        user="",
    )


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A directory whose ledger has three requests of two tenants on two days."""
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "router_config"
    directory.mkdir()
    (directory / "gateway.yaml").write_text("ledger: sqlite:///ledger.db\n")
    ledger = open_ledger("sqlite:///ledger.db")
    for number, (tenant, at, cost) in enumerate(
        [("support", NOVEMBER, 1), ("research", NOVEMBER, 20), ("support", NOVEMBER + DAY, 300)]
    ):
        ledger.record(attempt(number, tenant, at, cost))
    assert ledger.close(10.0)
    return directory


def test_a_table_with_its_total(config, capsys):
    assert main(["report"]) == 0
    out = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert [(row[0], row[-1]) for row in rows] == [
        ("research", "0.000000020"),
        ("support", "0.000000301"),
        ("total", "0.000000321"),
    ]


def test_csv_has_the_rows_and_nothing_else(config, capsys):
    assert main(["report", "--by", "tenant,day", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["tenant"], row["day"], row["cost_usd"]) for row in rows] == [
        ("research", "2026-11-01", "0.000000020"),
        ("support", "2026-11-01", "0.000000001"),
        ("support", "2026-11-02", "0.000000300"),
    ]


def test_json_has_rows_and_total(config, capsys):
    assert main(["report", "--by", "model", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    [row] = document["rows"]
    assert (row["model"], row["requests"], row["prompt_tokens"]) == ("chat-8b", 3, 30)
    assert document["total"]["cost_usd"] == row["cost_usd"] == "0.000000321"
    assert "model" not in document["total"]


@pytest.mark.parametrize(
    ("span", "requests"),
    [
        (["--from", "2026-11-02"], 1),
        (["--to", "2026-11-02"], 2),
        (["--from", "2026-11-01T00:00:01Z", "--to", "2026-11-03"], 1),
        (["--from", "2026-11-02T01:00:00+01:00"], 1),
        (["--from", "2026-11-03"], 0),
    ],
)
def test_only_the_time_asked_for(config, capsys, span, requests):
    assert main(["report", "--by", "key", "--format", "json", *span]) == 0
    assert json.loads(capsys.readouterr().out)["total"]["requests"] == requests


def test_times_are_dates_iso_times_or_reach_back_from_now():
    assert moment("2026-11-01") == moment("2026-11-01T00:00Z") == NOVEMBER
    before = time.time()
    assert before - DAY <= moment("24h") <= time.time() - DAY
    with pytest.raises(ArgumentTypeError, match="write 2026-11-01, 2026-11-01T12:00Z or 24h"):
        moment("yesterday")


@pytest.mark.parametrize("by", ["colour", "tenant,tenant"])
def test_a_dimension_that_is_not_there_is_wrong_usage(config, capsys, by):
    assert main(["report", "--by", by]) == 2
    assert "tenant, model, version" in capsys.readouterr().err


def test_no_ledger_yet_is_told_with_its_place(config, capsys):
    (config.parent / "ledger.db").unlink()
    assert main(["report"]) == 1
    assert f"there is no ledger at {config.parent / 'ledger.db'}" in capsys.readouterr().err
    assert not (config.parent / "ledger.db").exists()


def test_a_ledger_that_cannot_be_known_is_told_with_its_line(config, capsys):
    (config / "gateway.yaml").write_text("\nledger: mysql://x\n")
    assert main(["report"]) == 1
    assert "gateway.yaml:2: error: `ledger`: `mysql` is no kind of store" in capsys.readouterr().err


def test_a_mistake_elsewhere_does_not_stand_in_the_way(config, capsys):
    (config / "fleet.yaml").write_text("workers: [{api_key: '${env:NOT_SET_ANYWHERE}'}]\n")
    assert main(["report"]) == 0
    assert "support" in capsys.readouterr().out
