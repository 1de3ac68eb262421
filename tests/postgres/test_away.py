"""PostgreSQL is away for ten minutes: nothing waits for it, nothing is lost, and what is said of it is true."""

from __future__ import annotations

from pathlib import Path

from gateway.ledger.opening import open_books, open_store
from gateway.settler.settler import LAST_RETRY, ROWS_PER_BATCH
from tests.ledger_site import Site
from tests.postgres.server import PostgresServer

PER_SECOND = 50


def test_a_server_that_is_away_for_ten_minutes(tmp_path: Path, postgres: PostgresServer, url: str) -> None:
    site = Site(tmp_path, open_store(url))
    site.record(0)
    assert site.settle().settled == 1
    postgres.kill()
    recorded = 1
    try:
        for second in range(1, 601):
            site.record(*range(recorded, recorded + PER_SECOND))
            recorded += PER_SECOND
            status = site.settle()
            assert "see that PostgreSQL runs" in status.last_error
            assert status.waiting <= ROWS_PER_BATCH
            assert status.lag_seconds == second
            assert status.journals == {"me": 1}
        assert site.longest < 0.5, "seconds that the gateway waited for a record"
        assert not site.journal.full
    finally:
        postgres.start()
    status = site.settle_all()
    assert (status.settled, status.duplicates, status.refused) == (recorded, 0, 0)
    assert status.lag_seconds == 0.0
    assert status.journals == {"me": recorded}
    assert open_books(url).spent("support", 0) == sum(range(recorded))
    site.record(recorded)
    assert site.settle(LAST_RETRY).settled == recorded + 1
    site.close()
