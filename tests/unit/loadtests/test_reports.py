"""The ledger that reports are timed over adds up, and is reported on; small here."""

from decimal import Decimal

from gateway.ledger.report import build
from loadtests import reports


def test_a_small_one(tmp_path):
    path = tmp_path / "ledger.db"
    reports.make(path, 2_000)
    took = reports.measure(path)
    assert [name for name, *_ in took] == [name for name, _, _ in reports.REPORTS]
    assert all(rows for _, rows, *_ in took)
    whole = build(f"sqlite:///{path}", ["worker"])
    assert whole.total[1] == 2_000
    by_worker = {row[0]: Decimal(row[-1]) for row in whole.rows}
    timed = Decimal(reports.RATE * reports.HOURS).scaleb(-9)
    assert [by_worker[f"worker-{number}"] for number in range(1, reports.WORKERS)] == [timed] * (reports.WORKERS - 1)
