"""An audit asks both databases the same and hears the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.audit.auditor import Auditor
from gateway.ledger import audits
from gateway.ledger.opening import open_store
from gateway.ledger.store import Batch, Store
from tests.unit.gateway.audit.rows import attempt, broken_off, reading


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    url = f"sqlite:///{tmp_path / 'ledger.db'}" if request.param == "sqlite" else request.getfixturevalue("url")
    with closing(open_store(url)) as store:
        yield store


def test_estimates_become_what_the_engine_counted(store: Store) -> None:
    store.write(
        Batch(
            [
                attempt(1, 2_000.0, 3.0, 40, 20),
                broken_off(2, 2_001.0, 4.0, 100, 10),
                broken_off(3, 2_001.0, 4.0, 100, 10, ttft_seconds=0.5),
                attempt(4, 2_001.0, 4.0, 7, 7, line=attempt(4, 0, 0, 0, 0).line._replace(worker="other")),
            ],
            [
                reading(1_990.0, 1_000, 500),
                reading(2_002.0, 1_040, 500, in_flight=2, running=2),
                reading(2_010.0, 1_227, 543),
                reading(2_010.0, 9, 9, worker="other"),
                reading(2_050.0, 3, 0, source="g2", engine_started=2_040.0),
            ],
        )
    )
    auditor = Auditor(lambda: store, 3_600.0, 0.001, shared=True)
    for now in (2_060.0, 2_061.0):  # twice is once
        assert auditor.step(now, through=now, own={"g1", "g2"}) == {"w": 0.0}
    with store.snapshot() as ledger:
        assert audits.workers(ledger) == ["other", "w"]
        exact, gap, after = audits.since(ledger, 0.0)
        assert audits.last_exact(ledger, "w") == after
        assert audits.last_end(ledger, "w") == after.ended_at == 2_050.0
        assert audits.sources(ledger, "w") == {"g1", "g2"}
        rows = audits.estimated(ledger, "w", 1_990.0, 2_010.0)
        (sums,) = ledger.rows("SELECT SUM(prompt_tokens), SUM(output_tokens) FROM rollups")
    assert (exact.exact, exact.engine_prompt, exact.ledger_prompt, exact.corrected_prompt) == (True, 227, 240, -13)
    assert (exact.engine_output, exact.ledger_output, exact.corrected_output) == (43, 40, 3)
    assert (gap.reason, gap.unobserved_seconds) == ("restart", 30.0)
    assert sums == (227 + 7, 43 + 7)
    assert {(row.request_id[-1], row.correction) for row in rows} >= {("2", 0), ("2", 1), ("3", 0)}
    assert all(row.estimated is True and row.final is True for row in rows)
