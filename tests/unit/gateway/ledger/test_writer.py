"""The ledger as the gateway sees it, over a real journal."""

from __future__ import annotations

from gateway.ledger.journal.format import Entry
from gateway.ledger.journal.reader import Tail
from gateway.ledger.journal.writer import Journal
from gateway.ledger.writer import Ledger
from tests.attempts import attempt
from tests.eventually import eventually
from tests.unit.gateway.ledger.journal.rows import READING, records

SEGMENT = 4_096


def row(number, **fields):
    return attempt(f"req_{number:028x}", cost_nanousd=number, **fields)


def kinds(tail):
    """Kind and cost of the attempts that are new."""
    return [(one.kind, one.attempt.cost_nanousd) for one in records(tail) if isinstance(one, Entry)]


def open_journal(root):
    return Journal(root, "me", max_bytes=3 * SEGMENT, segment_bytes=SEGMENT, sync_seconds=0.01)


def test_what_is_said_stands_in_the_journal(tmp_path):
    journal = open_journal(tmp_path)
    ledger = Ledger(journal)
    ledger.intend(row(1))
    ledger.checkpoint(row(1))
    ledger.record(row(1))
    ledger.read(READING)
    assert kinds(Tail(journal.directory)) == [("intent", 1), ("checkpoint", 1), ("settle", 1)]
    assert ledger.source == "me"
    assert ledger.stats == (1, 0, 0, False, "")
    ledger.close()
    assert Tail(journal.directory).is_dead()


def test_without_a_journal_nothing_is_recorded():
    ledger = Ledger(None, refuses=True)
    ledger.intend(row(1))
    ledger.checkpoint(row(1))
    ledger.record(row(1))
    ledger.read(READING)
    assert not ledger.has_no_room
    assert ledger.source == ""
    assert ledger.stats == (0, 0, 0, False, "")
    ledger.close()


def begin_many(ledger, journal):
    """Attempts until there is no room for another beginning; how many."""
    count = 0
    while not journal.full:
        count += 1
        ledger.intend(row(count, opened_at=float(count)))
    return count - 1  # the last one found no room, or was the last that did


def test_ends_that_find_no_room_at_all_wait_for_it(tmp_path):
    journal = open_journal(tmp_path)
    ledger = Ledger(journal)
    tail = Tail(journal.directory)
    count = begin_many(ledger, journal)
    for number in range(1, count + 1):
        ledger.record(row(number, opened_at=float(number)))
    owed = ledger.stats.owed
    assert owed > 0
    assert ledger.stats == (count - owed, 0, owed, True, journal.last_error)
    read = kinds(tail)
    assert [cost for kind, cost in read if kind == "settle"] == list(range(1, count - owed + 1))
    tail.release(tail.segment)
    read.clear()

    def repaid():
        ledger.read(READING)
        read.extend(kinds(tail))
        return ledger.stats.owed == 0 or None

    eventually(repaid, "what is owed is paid")
    assert [cost for kind, cost in read if kind == "settle"] == list(range(count - owed + 1, count + 1))
    assert ledger.stats.recorded == count
    assert ledger.stats.dropped == 0
    ledger.close()


def test_what_is_still_owed_at_the_end_goes_to_the_log(tmp_path, caplog):
    journal = open_journal(tmp_path)
    ledger = Ledger(journal)
    count = begin_many(ledger, journal)
    for number in range(1, count + 1):
        ledger.record(row(number, opened_at=float(number)))
    owed = ledger.stats.owed
    ledger.close()
    assert caplog.text.count("attempt lost, the journal is full, and the gateway ends") == owed > 0
    assert ledger.stats == (count - owed, owed, 0, True, journal.last_error)


def test_what_fits_no_record_goes_to_the_log(tmp_path, caplog):
    ledger = Ledger(open_journal(tmp_path))
    ledger.record(row(1, gpu_ns=2**70))
    ledger.record(row(2))
    assert ledger.stats[:3] == (1, 1, 0)
    assert "attempt lost, it fits no record: {" in caplog.text
    assert {record.name for record in caplog.records} == {"tollgate.ledger"}
    assert f'"gpu_ns": {2**70}' in caplog.text
    ledger.close()
