"""`tollgate export`: every row in every format, whole files only, and FOCUS."""

import csv
import io
import json
import os
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from pyarrow import parquet

from gateway.cli import main
from gateway.ledger.record import Label
from gateway.ledger.sqlite import SqliteStore
from gateway.ledger.store import Batch
from tests.attempts import LABEL, LINE, attempt
from tests.bills import NOBODY, nobodys, share_out

NOVEMBER = 1_761_955_200.0  # 2025-11-01T00:00Z
DAY = 86_400.0


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A ledger with two attempts and a correction, one of them of a hosted worker, and a shared out minute."""
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "router_config"
    directory.mkdir()
    (directory / "gateway.yaml").write_text("ledger: sqlite:///ledger.db\n")
    store = SqliteStore(tmp_path / "ledger.db")
    hosted = {"worker": "hosted", "cost_basis": "token_price"}
    store.write(
        Batch(
            [
                attempt("r1", started_at=NOVEMBER, user="änn", tags='{"team":"search"}', ttft_seconds=None),
                attempt("r2", started_at=NOVEMBER + DAY + 0.125, cost_nanousd=7, **hosted),
                attempt("r2", correction=1, started_at=NOVEMBER + DAY + 0.125, cost_nanousd=-2, **hosted),
            ]
        )
    )
    store.close()
    label = Label("auto", "änn", '{"team":"search"}')
    parts = {(LINE, label): 1, (nobodys("__idle__"), NOBODY): 2}
    share_out(tmp_path / "ledger.db", LINE.worker, NOVEMBER, NOVEMBER + 60, 1_100_000_000, parts)
    return directory


def test_csv_has_every_attempt_and_correction(config, capsysbinary):
    assert main(["export"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsysbinary.readouterr().out.decode())))
    assert [(row["attempt_id"], row["correction"], row["cost_nanousd"]) for row in rows] == [
        ("r1.1", "0", "309000"),
        ("r2.1", "0", "7"),
        ("r2.1", "1", "-2"),
    ]
    assert (rows[0]["user"], rows[0]["tags"], rows[0]["ttft_seconds"]) == ("änn", '{"team":"search"}', "")
    assert [row["started_at"] for row in rows[:2]] == ["2025-11-01T00:00:00Z", "2025-11-02T00:00:00.125Z"]
    assert (rows[0]["final"], rows[0]["estimated"]) == ("true", "false")


def test_json_has_an_object_on_each_line(config, capsysbinary):
    assert main(["export", "--format", "json", "--from", "2025-11-02"]) == 0
    rows = [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    assert [(row["request_id"], row["cost_nanousd"], row["final"]) for row in rows] == [
        ("r2", 7, True),
        ("r2", -2, True),
    ]


@pytest.mark.parametrize("arguments", [[], ["--by", "user"], ["--format", "focus"]])
def test_what_clients_said_is_no_formula_in_csv(config, tmp_path, capsysbinary, arguments):
    store = SqliteStore(tmp_path / "ledger.db")
    cost = {"worker": "hosted", "cost_basis": "token_price", "cost_nanousd": -5}
    store.write(Batch([attempt("r3", started_at=NOVEMBER, user="@x", tenant="-1+1", **cost)]))
    store.close()
    assert main(["export", *arguments]) == 0
    out = capsysbinary.readouterr().out.decode()
    assert ("'@x" in out) or ("'-1+1" in out)
    cells = {cell for row in csv.reader(io.StringIO(out)) for cell in row}
    assert {"-5", "-0.000000005"} & cells
    assert [cell for cell in cells if cell.startswith(("=", "+", "@")) or (cell.startswith("-") and "+" in cell)] == []


def test_parquet_keeps_types(config, tmp_path):
    assert main(["export", "--format", "parquet", "-o", "out.parquet"]) == 0
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.num_rows == 3
    assert table["started_at"].to_pylist()[1] == datetime(2025, 11, 2, 0, 0, 0, 125_000, UTC)
    assert str(table.schema.field("cost_nanousd").type) == "int64"
    assert str(table.schema.field("final").type) == "bool"
    assert table["ttft_seconds"].to_pylist()[0] is None


def test_sums_in_parquet(config, tmp_path):
    assert main(["export", "--format", "parquet", "--by", "tenant,day", "-o", "out.parquet"]) == 0
    rows = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["tenant"], row["day"], row["requests"]) for row in rows] == [
        ("support", "2025-11-01", 1),
        ("support", "2025-11-02", 1),
        ("__idle__", "2025-11-01", 0),
    ]
    assert sum(row["cost_usd"] for row in rows) == Decimal("0.018333338")


def test_focus_in_csv_and_in_parquet(config, tmp_path, capsysbinary):
    assert main(["export", "--format", "focus"]) == 0
    captured = capsysbinary.readouterr()
    rows = list(csv.DictReader(io.StringIO(captured.out.decode())))
    assert sum(Decimal(row["BilledCost"]) for row in rows) == Decimal("0.018333338")
    assert b"BilledCost: workers' time is shared out through 2025-11-01T00:01:00Z" in captured.err
    assert main(["export", "--format", "focus", "-o", "out.parquet"]) == 0
    table = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["BilledCost"] for row in table] == [Decimal(row["BilledCost"]) for row in rows]


def test_a_file_appears_when_it_is_whole(config, tmp_path, capsysbinary):
    (tmp_path / "out.csv").write_text("before")
    (tmp_path / "ledger.db").rename(tmp_path / "gone.db")
    assert main(["export", "-o", "out.csv"]) == 1
    assert (tmp_path / "out.csv").read_text() == "before"
    (tmp_path / "gone.db").rename(tmp_path / "ledger.db")
    assert main(["export", "-o", "out.csv"]) == 0
    assert (tmp_path / "out.csv").read_text().startswith("attempt_id,")
    assert not (tmp_path / "out.csv.partial").exists()


def test_no_file_takes_the_place_of_a_pipe_or_a_link(config, tmp_path, capsysbinary):
    os.mkfifo(tmp_path / "pipe")
    with open(os.open(tmp_path / "pipe", os.O_RDWR | os.O_NONBLOCK), "rb", buffering=0) as reader:
        assert main(["export", "-o", "pipe"]) == 0
        assert reader.read(11) == b"attempt_id,"
    (tmp_path / "out.csv").symlink_to("target.csv")
    assert main(["export", "-o", "out.csv"]) == 0
    assert (tmp_path / "out.csv").is_symlink()
    assert (tmp_path / "target.csv").read_text().startswith("attempt_id,")
    assert not (tmp_path / "target.csv.partial").exists()


def test_a_directory_is_no_file(config, tmp_path, capsysbinary):
    (tmp_path / "out").mkdir()
    assert main(["export", "-o", "out"]) == 1
    assert b"out cannot be written (Is a directory)" in capsysbinary.readouterr().err


def test_a_file_that_cannot_be_written_is_told_by_its_name(config, capsysbinary):
    assert main(["export", "-o", "nowhere/out.csv"]) == 1
    assert b"nowhere/out.csv cannot be written (No such file or directory)" in capsysbinary.readouterr().err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full disk here")
def test_a_full_disk_is_told(config, capsysbinary, monkeypatch, tmp_path):
    with open("/dev/full", "wb", buffering=0) as file, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", io.TextIOWrapper(file))
        assert main(["export"]) == 1
        sys.stdout.detach()
    assert b"standard output cannot be written (No space left on device)" in capsysbinary.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--format", "focus", "--by", "tenant"], ["--by", "colour"], ["--format", "xml"], ["--from", "soon"]]
)
def test_wrong_usage(config, arguments):
    with pytest.raises(SystemExit, match="2"):
        sys.exit(main(["export", *arguments]))


def test_without_pyarrow_there_is_no_parquet(config, monkeypatch, capsysbinary):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["export", "--format", "parquet", "-o", "out.parquet"]) == 1
    assert b"pip install 'tollgate[export]'" in capsysbinary.readouterr().err
    assert not os.path.exists("out.parquet")


def test_many_rows_are_written_in_batches(config, tmp_path):
    store = SqliteStore(tmp_path / "ledger.db")
    store.write(Batch([attempt(f"many{n}", started_at=NOVEMBER + n, **LABEL._asdict()) for n in range(25_000)]))
    store.close()
    assert main(["export", "-o", "out.csv"]) == 0
    assert main(["export", "--format", "parquet", "-o", "out.parquet"]) == 0
    with (tmp_path / "out.csv").open() as file:
        assert sum(1 for _ in file) == 25_004
    assert parquet.read_table(tmp_path / "out.parquet").num_rows == 25_003
