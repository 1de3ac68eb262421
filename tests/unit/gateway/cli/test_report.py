"""`tollgate report`: the ledger's sums as a table, as CSV, as JSON and as a picture, for the time asked for."""

import csv
import io
import json
import os
import sqlite3
import subprocess
import sys
import time
from argparse import ArgumentTypeError
from contextlib import closing
from pathlib import Path

import pytest

import gateway
from gateway.cli import main
from gateway.cli.report import moment
from gateway.ledger.sqlite import SqliteStore
from gateway.ledger.store import Batch
from tests.attempts import LABEL, LINE, attempt
from tests.bills import NOBODY, nobodys, share_out

DAY = 86_400.0
NOVEMBER = 1_761_955_200.0  # 2025-11-01T00:00Z


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A directory whose ledger has three requests of two tenants on two days, and a minute of a worker shared out."""
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "router_config"
    directory.mkdir()
    (directory / "gateway.yaml").write_text("ledger: sqlite:///ledger.db\n")
    store = SqliteStore(tmp_path / "ledger.db")
    hosted = {"worker": "hosted", "cost_basis": "token_price"}
    store.write(
        Batch(
            [
                attempt("r0", tenant="support", started_at=NOVEMBER, cost_nanousd=1, tags='{"team":"x"}'),
                attempt("r1", tenant="research", started_at=NOVEMBER, cost_nanousd=20, **hosted),
                attempt("r2", tenant="support", started_at=NOVEMBER + DAY, cost_nanousd=300, **hosted),
            ]
        )
    )
    store.close()
    parts = {(nobodys("__idle__"), NOBODY): 1, (LINE, LABEL): 1}
    share_out(tmp_path / "ledger.db", LINE.worker, NOVEMBER, NOVEMBER + 60, 60_000, parts)
    return directory


def cells(out):
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]


def test_a_table_with_its_total_and_how_far_it_goes(config, capsys):
    assert main(["report"]) == 0
    out = capsys.readouterr().out
    assert [(row[0], row[-2], row[-1]) for row in cells(out)] == [
        ("research", "0.000000020", "0.000000020"),
        ("support", "0.000000301", "0.000000800"),
        ("__idle__", "0.000000000", "0.000000500"),
        ("total", "0.000000321", "0.000001320"),
    ]
    assert out.splitlines()[-1] == "cost_usd: workers' time is shared out through 2025-11-01T00:01:00Z, by the hour"


def test_csv_has_the_rows_and_nothing_else(config, capsys):
    assert main(["report", "--by", "tenant,day", "--format", "csv"]) == 0
    captured = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(captured.out)))
    assert [(row["tenant"], row["day"], row["metered_usd"]) for row in rows] == [
        ("research", "2025-11-01", "0.000000020"),
        ("support", "2025-11-01", "0.000000001"),
        ("support", "2025-11-02", "0.000000300"),
        ("__idle__", "2025-11-01", "0.000000000"),
    ]
    assert "shared out through" in captured.err


def test_json_has_rows_and_total(config, capsys):
    assert main(["report", "--by", "model,tag:team", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["by"] == ["model", "tag:team"]
    assert [(row["tag:team"], row["requests"]) for row in document["rows"]] == [("", 2), ("x", 1)]
    assert document["total"]["cost_usd"] == "0.000001320"
    assert "model" not in document["total"]
    assert (document["shared_through"], document["unshared_usd"]) == ("2025-11-01T00:01:00Z", "0.000000000")


@pytest.mark.parametrize(
    ("span", "requests"),
    [
        (["--from", "2025-11-02"], 1),
        (["--to", "2025-11-02"], 2),
        (["--from", "2025-11-01T00:00:01Z", "--to", "2025-11-03"], 1),
        (["--from", "2025-11-02T01:00:00+01:00"], 1),
        (["--from", "2025-11-03"], 0),
    ],
)
def test_only_the_time_asked_for(config, capsys, span, requests):
    assert main(["report", "--by", "key", "--format", "json", *span]) == 0
    assert json.loads(capsys.readouterr().out)["total"]["requests"] == requests


@pytest.mark.parametrize("command", ["report", "export"])
def test_time_the_wrong_way_round_is_wrong_usage(config, capsys, command):
    assert main([command, "--from", "2025-11-03", "--to", "2025-11-01"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "--to is before --from" in captured.err


@pytest.mark.parametrize("command", ["report", "export"])
def test_time_that_lies_ahead_is_wrong_usage(config, capsys, command):
    assert main([command, "--from", "9999-11-03"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "--from lies ahead: name a time before now, or a duration that reaches back from it" in captured.err


def test_what_is_known_by_the_hour_only_is_told_of_parts_of_one(config, capsys):
    assert main(["report", "--from", "2025-11-01T00:00:30Z"]) == 0
    out = capsys.readouterr().out
    assert "hours that begin in the time asked for" in out
    assert main(["report", "--from", "2025-11-01", "--to", "2025-11-02"]) == 0
    assert "hours that begin" not in capsys.readouterr().out


def test_times_are_dates_iso_times_or_reach_back_from_now():
    assert moment("2025-11-01") == moment("2025-11-01T00:00Z") == NOVEMBER
    before = time.time()
    assert before - DAY <= moment("24h") <= time.time() - DAY
    assert moment("30d") <= time.time() - 30 * DAY
    with pytest.raises(ArgumentTypeError, match="write 2026-11-01, 2026-11-01T12:00Z or 24h"):
        moment("yesterday")


@pytest.mark.parametrize("by", ["colour", "tenant,tenant", "tag:"])
def test_a_dimension_that_is_not_there_is_wrong_usage(config, capsys, by):
    assert main(["report", "--by", by]) == 2
    assert "tenant, key, model" in capsys.readouterr().err


# A price list


PRICES = "{chat-8b: {input_usd_per_m: 0.2, cached_input_usd_per_m: 0.05, output_usd_per_m: 0.6}}"
PRICED = "0.000087000"  # three times 60, 40 and 25 tokens


def test_prices_of_the_command_line_a_file_and_the_configuration(config, tmp_path, capsys):
    (tmp_path / "list.yaml").write_text(f"prices: {PRICES}")
    (tmp_path / "bare.yaml").write_text(PRICES)
    (config / "models.yaml").write_text(f"prices: {PRICES}")
    for given in ([PRICES], ["list.yaml"], ["bare.yaml"], []):
        assert main(["report", "--format", "json", "--prices", *given]) == 0
        total = json.loads(capsys.readouterr().out)["total"]
        assert (total["price_usd"], total["difference_usd"]) == (PRICED, "0.000085680")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "there are no `prices:` in router_config"),
        (["nowhere.yaml"], "nowhere.yaml cannot be read"),
        (["{chat-8b: 5}"], "chat-8b: Input should be"),
        (["{chat-8b: {input_usd_per_m: -1, output_usd_per_m: 1}}"], "chat-8b.input_usd_per_m: Input should be"),
        (["{chat-8b: {input: 1}}"], "chat-8b"),
        (["{chat-8b"], "it is not YAML"),
        (["{5: {}}"], "5"),
    ],
)
def test_a_price_list_that_is_none(config, capsys, given, message):
    assert main(["report", "--prices", *given]) == 2
    assert message in capsys.readouterr().err


# A picture


def test_what_clients_said_steers_no_terminal(config, tmp_path, capsys):
    store = SqliteStore(tmp_path / "ledger.db")
    store.write(Batch([attempt("r3", started_at=NOVEMBER, user="\x1b[31ma\nb\u202eä")]))
    store.close()
    assert main(["report", "--by", "user"]) == 0
    out = capsys.readouterr().out
    assert "\\x1b[31ma\\nb\\u202eä" in out
    assert "\x1b" not in out
    assert main(["report", "--by", "user", "--format", "csv"]) == 0
    assert '"\x1b[31ma\nb\u202eä"' in capsys.readouterr().out


def test_what_clients_said_is_no_formula_in_csv(config, tmp_path, capsys):
    store = SqliteStore(tmp_path / "ledger.db")
    store.write(Batch([attempt("r3", started_at=NOVEMBER, user='=HYPERLINK("http://x")', cost_nanousd=-5)]))
    store.close()
    assert main(["report", "--by", "user", "--format", "csv"]) == 0
    rows = {row["user"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert rows['\'=HYPERLINK("http://x")']["metered_usd"] == "-0.000000005"
    assert main(["report", "--by", "user", "--format", "json"]) == 0
    assert '=HYPERLINK("http://x")' in [row["user"] for row in json.loads(capsys.readouterr().out)["rows"]]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full disk here")
@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_a_full_disk_is_told(config, form):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gateway.cli", "report", "--format", form, "--config", str(config)],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(gateway.__file__).parent.parent)},
        )
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1:] == [
        "tollgate: standard output cannot be written (No space left on device)"
    ]
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["bill.png", "bill.svg"])
def test_a_picture(config, tmp_path, name, capsys):
    assert main(["report", "--by", "tenant", "--plot", name]) == 0
    assert capsys.readouterr().err == f"drawn: {name}\n"
    content = (tmp_path / name).read_bytes()
    assert content.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")
    assert len(content) > 5_000


def test_a_picture_of_another_kind_is_wrong_usage(config, capsys):
    assert main(["report", "--plot", "bill.gif"]) == 2
    assert "end the name in .png or .svg" in capsys.readouterr().err


def test_a_picture_of_nothing_and_one_that_cannot_be_written(config, capsys):
    assert main(["report", "--from", "2025-12-01", "--plot", "bill.png"]) == 1
    assert main(["report", "--plot", "nowhere/bill.png"]) == 1
    err = capsys.readouterr().err
    assert "there is nothing to draw" in err
    assert "nowhere/bill.png cannot be written" in err


def test_without_matplotlib_there_is_no_picture(config, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["report", "--plot", "bill.png"]) == 1
    assert "pip install 'tollgate[plot]'" in capsys.readouterr().err


# The cost model


def test_fits(config, tmp_path, capsys):
    assert main(["report", "--fits"]) == 0
    assert "nothing has been fitted yet" in capsys.readouterr().out
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection, connection:
        for at, r2 in ((NOVEMBER, 0.5), (NOVEMBER + DAY, 0.987654)):
            connection.execute(
                "INSERT INTO fits (model, version, gpu, at, n, r2, a0, a1, a2, a3, a4) "
                "VALUES ('chat-8b', 'int4', 'l40s', ?, 50, ?, 0.01, 2e-5, 0, 3e-4, 1e-9)",
                (at, r2),
            )
    assert main(["report", "--fits"]) == 0
    out = capsys.readouterr().out
    assert cells(out) == [
        ["chat-8b", "int4", "l40s", "2025-11-02T00:00Z", "50", "0.9877", "0.01", "2e-05", "0", "0.0003", "1e-09"]
    ]
    assert "a1: a new prompt token" in out
    assert main(["report", "--fits", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["fits"][0]["r2"] == 0.987654
    assert main(["report", "--fits", "--format", "csv"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "model,version,gpu,fitted_at,windows,r2,a0,a1,a2,a3,a4"


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
