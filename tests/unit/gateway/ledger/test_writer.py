"""The ledger's queue and thread, in dialogue with a store that does as it is told."""

import json
import logging
from threading import Event

import pytest

from gateway.ledger.store import LedgerError, Written
from gateway.ledger.writer import Ledger, open_ledger
from tests.attempts import attempt

SOON = 20.0  # seconds a test would wait for what must happen; never reached when it does


class Store:
    """Keeps attempts in memory. While `away` says why, it refuses; while not `open`, it makes its caller wait."""

    def __init__(self):
        self.kept = {}
        self.batches = []
        self.away = ""
        self.open = Event()
        self.open.set()
        self.asked = Event()
        self.closed = Event()

    def write(self, batch):
        self.asked.set()
        self.open.wait(SOON)
        if self.away:
            raise LedgerError(self.away)
        self.batches.append(len(batch))
        before = len(self.kept)
        refused = [(row, "too large") for row in batch if row.cost_nanousd > 2**63]
        self.kept.update((row.attempt_id, row) for row in batch if row.cost_nanousd <= 2**63)
        return Written(len(self.kept) - before, refused)

    def spent(self, tenant, since):
        return sum(row.cost_nanousd for row in self.kept.values() if row.tenant == tenant and row.started_at >= since)

    def close(self):
        self.closed.set()


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def ledger(store):
    ledger = Ledger(store, capacity=10, first_retry=0.001)
    yield ledger
    store.away = ""
    store.open.set()
    ledger.close(SOON)
    assert store.closed.wait(SOON)


def lost(caplog):
    """The attempts the log says were lost, in full."""
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    return [json.loads(line[line.index(": {") + 2 :]) for line in lines if line.startswith("attempt lost")]


def test_what_is_recorded_is_written(ledger, store):
    ledger.record(attempt("r1"))
    ledger.record(attempt("r2"))
    assert ledger.flush(SOON)
    assert list(store.kept) == ["r1.1", "r2.1"]
    stats = ledger.stats
    assert (stats.written, stats.queued, stats.dropped, stats.last_error, stats.lag_seconds) == (2, 0, 0, "", 0.0)


def test_flushing_an_empty_ledger_returns(ledger):
    assert ledger.flush(SOON)
    assert ledger.flush(SOON)


def test_attempts_gather_into_one_batch(ledger, store):
    store.open.clear()
    ledger.record(attempt("r0"))
    assert store.asked.wait(SOON)
    for number in range(1, 8):
        ledger.record(attempt(f"r{number}"))
    store.open.set()
    assert ledger.flush(SOON)
    assert store.batches == [1, 7]


def test_a_batch_is_bounded_and_the_next_follows_at_once(store):
    ledger = Ledger(store)
    store.open.clear()
    ledger.record(attempt("first"))
    assert store.asked.wait(SOON)
    for number in range(5_000):
        ledger.record(attempt(f"r{number}"))
    store.open.set()
    assert ledger.close(SOON)
    assert store.batches == [1, 4_096, 904]
    assert [row.request_id for row in store.kept.values()] == ["first", *(f"r{n}" for n in range(5_000))]


def test_an_attempt_recorded_twice_is_a_duplicate(ledger):
    ledger.record(attempt())
    ledger.record(attempt())
    assert ledger.flush(SOON)
    assert (ledger.stats.written, ledger.stats.duplicates) == (1, 1)


def test_a_store_that_is_away_is_tried_again_until_it_is_back(ledger, store, caplog):
    store.away = "the ledger is on another planet"
    ledger.record(attempt("r1"))
    assert store.asked.wait(SOON)
    assert not ledger.flush(0.05)
    assert ledger.stats.last_error == "the ledger is on another planet"
    assert ledger.stats.queued >= 1
    assert ledger.stats.lag_seconds > 0
    store.away = ""
    assert ledger.flush(SOON)
    assert list(store.kept) == ["r1.1"]
    assert ledger.stats.last_error == ""
    said = [record.getMessage() for record in caplog.records]
    assert sum("another planet" in line for line in said) == 1  # once, however often it was tried
    assert sum("written again" in line for line in said) == 1


def test_recording_never_waits_and_what_does_not_fit_is_in_the_log(ledger, store, caplog):
    store.open.clear()
    ledger.record(attempt("held"))
    assert store.asked.wait(SOON)
    for number in range(12):
        ledger.record(attempt(f"r{number}", user="Zoë"))
    assert ledger.stats.dropped == 2
    assert lost(caplog) == [attempt(name, user="Zoë")._asdict() for name in ("r10", "r11")]
    store.open.set()
    assert ledger.flush(SOON)
    assert list(store.kept) == ["held.1", *(f"r{number}.1" for number in range(10))]
    ledger.record(attempt("after"))
    assert ledger.flush(SOON)
    assert ledger.stats.dropped == 2


def test_what_the_store_can_never_take_is_in_the_log(ledger, store, caplog):
    ledger.record(attempt("r1"))
    ledger.record(attempt("huge", cost_nanousd=2**70))
    ledger.record(attempt("r2"))
    assert ledger.flush(SOON)
    assert list(store.kept) == ["r1.1", "r2.1"]
    assert [one["attempt_id"] for one in lost(caplog)] == ["huge.1"]
    stats = ledger.stats
    assert (stats.written, stats.duplicates, stats.dropped) == (2, 0, 1)


def test_closing_writes_what_is_queued(store):
    ledger = Ledger(store)
    for number in range(500):
        ledger.record(attempt(f"r{number}"))
    assert ledger.close(SOON)
    assert len(store.kept) == 500
    assert store.closed.is_set()
    assert ledger.close(SOON)


def test_closing_gives_up_on_a_store_that_stays_away_and_says_what_is_lost(store, caplog):
    ledger = Ledger(store, first_retry=0.001)
    store.away = "the ledger is on another planet"
    ledger.record(attempt("r1"))
    ledger.record(attempt("r2"))
    assert not ledger.close(0.05)
    assert store.closed.wait(SOON)
    assert [one["attempt_id"] for one in lost(caplog)] == ["r1.1", "r2.1"]
    assert ledger.stats.dropped == 2


def test_closing_does_not_wait_for_a_store_that_hangs(store, caplog):
    ledger = Ledger(store)
    store.open.clear()
    ledger.record(attempt("held"))
    assert store.asked.wait(SOON)
    ledger.record(attempt("queued"))
    assert not ledger.close(0.01)
    assert [one["attempt_id"] for one in lost(caplog)] == ["held.1", "queued.1"]
    store.open.set()
    assert store.closed.wait(SOON)


def test_after_closing_an_attempt_is_lost_aloud(store, caplog):
    ledger = Ledger(store)
    ledger.close(SOON)
    ledger.record(attempt("late"))
    assert [one["attempt_id"] for one in lost(caplog)] == ["late.1"]
    assert "the ledger is closed" in caplog.text


def test_a_ledger_in_a_file(tmp_path):
    ledger = open_ledger(f"sqlite:///{tmp_path / 'var' / 'ledger.db'}")
    ledger.record(attempt())
    assert ledger.flush(SOON)
    assert ledger.spent("support", 0) == attempt().cost_nanousd
    assert ledger.close(SOON)


def test_what_cannot_be_opened_is_said_at_once():
    with pytest.raises(LedgerError, match="PostgreSQL"):
        open_ledger("postgresql://db/ledger")
