"""A segment of a journal is let go when everything of it is in the ledger, and not before, whoever dies meanwhile."""

from __future__ import annotations

import pytest

from gateway.ledger.journal.reader import journals
from gateway.ledger.journal.writer import Journal
from gateway.ledger.store import Batch, Counts, LedgerError
from gateway.settler.settler import ROWS_PER_BATCH, Settler
from tests.unit.gateway.ledger.journal.rows import NEVER, READING, SEGMENT, request_id, row, segments

MANY = 70  # settlements, which take three segments


class FarEnd:
    """A sink whose database is elsewhere: a test says how far it is, and when it is away."""

    def __init__(self):
        self.put_batches: list[Batch] = []
        self.reached = 0
        self.is_away = False

    def put(self, batch):
        if self.is_away:
            raise LedgerError("away")
        self.put_batches.append(batch)
        return len(self.put_batches)

    def settled(self):
        return self.reached

    @property
    def counts(self):
        return Counts()

    def close(self):
        pass

    @property
    def numbers(self):
        """The requests of all that was put."""
        return [int(one.request_id[4:], 16) for batch in self.put_batches for one in batch.attempts]


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path, "me", max_bytes=1 << 20, segment_bytes=SEGMENT, sync_seconds=NEVER)
    yield journal
    journal.close()


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 10.0
        return self.now


def settler_of(root, far_end):
    return Settler(root, far_end, monotonic=Clock())


def second(number):
    """The intent of a request's second attempt."""
    return row(number, outcome="crashed")._replace(number=2)


def until_quiet(settler):
    for _ in range(10):
        settler.look_now()
        if not settler.step():
            return


def test_a_batch_of_several_segments_holds_all_of_them(tmp_path, journal):
    far_end = FarEnd()
    settler = settler_of(tmp_path, far_end)
    for number in range(MANY):
        assert journal.append("settle", row(number))
    assert len(segments(journal)) == 3
    until_quiet(settler)
    assert far_end.numbers == list(range(MANY))
    assert len(segments(journal)) == 3, "nothing of it is in the database"
    far_end.reached = len(far_end.put_batches)
    until_quiet(settler)
    assert segments(journal) == ["00000003.log"]


def test_what_could_not_be_put_yet_holds_its_segments(tmp_path, journal):
    far_end = FarEnd()
    settler = settler_of(tmp_path, far_end)
    far_end.is_away = True
    for number in range(MANY):
        assert journal.append("settle", row(number))
    for _ in range(3):
        until_quiet(settler)
    assert len(segments(journal)) == 3
    another = FarEnd()
    until_quiet(settler_of(tmp_path, another))  # the first is dead
    assert another.numbers == list(range(MANY))


def test_an_open_attempt_holds_what_was_said_of_it_last(tmp_path, journal):
    """A long stream does not keep all that happens beside it."""
    far_end = FarEnd()
    settler = settler_of(tmp_path, far_end)
    journal.append("intent", row(999, outcome="crashed"))
    for number in range(40):
        journal.append("settle", row(number))
    far_end.reached = 10
    until_quiet(settler)
    assert segments(journal)[0] == "00000001.log"
    journal.append("checkpoint", row(999, outcome="crashed", output_tokens=64))
    for number in range(40, 90):
        journal.append("settle", row(number))
    until_quiet(settler)
    held = segments(journal)
    assert held[0] != "00000001.log"
    journal.close()
    another = FarEnd()
    another.reached = 10
    until_quiet(settler_of(tmp_path, another))
    (crashed,) = [one for batch in another.put_batches for one in batch.attempts if one.outcome == "crashed"]
    assert (crashed.request_id, crashed.output_tokens) == (request_id(999), 64)
    assert journals(tmp_path) == []


def test_the_last_attempt_of_a_killed_request_is_its_last(tmp_path, journal):
    far_end = FarEnd()
    journal.append("intent", row(1, outcome="crashed"))
    journal.append("checkpoint", row(1, outcome="failed", final=False))
    journal.append("intent", second(1))
    journal.append("intent", row(2, outcome="crashed"))
    journal.append("checkpoint", row(2, outcome="failed", final=False))
    journal.append("settle", row(3, final=False, outcome="failed"))
    journal.append("intent", second(3))
    journal.close()
    until_quiet(settler_of(tmp_path, far_end))
    found = {
        (int(one.request_id[4:], 16), one.number): (one.outcome, one.final)
        for batch in far_end.put_batches
        for one in batch.attempts
    }
    assert found == {
        (1, 1): ("failed", False),
        (1, 2): ("crashed", True),
        (2, 1): ("failed", True),
        (3, 1): ("failed", False),
        (3, 2): ("crashed", True),
    }


def test_a_journal_that_cannot_be_read_holds_up_no_other_and_loses_nothing(tmp_path, journal):
    other = Journal(tmp_path, "other", max_bytes=1 << 20, segment_bytes=SEGMENT, sync_seconds=NEVER)
    try:
        for number in range(MANY):
            assert journal.append("settle", row(number))
        other.append("settle", row(1_000))
        second = journal.directory / "00000002.log"
        second.rename(journal.directory / "away")
        second.mkdir()
        far_end = FarEnd()
        far_end.reached = 10
        settler = settler_of(tmp_path, far_end)
        until_quiet(settler)
        first = len(far_end.numbers) - 1
        assert sorted(far_end.numbers) == [*range(first), 1_000]
        assert "cannot be read" in settler.status.last_error
        assert segments(journal)[-2:] == ["00000002.log", "00000003.log"]
        second.rmdir()
        (journal.directory / "away").rename(second)
        until_quiet(settler)
        assert sorted(far_end.numbers) == [*range(MANY), 1_000]
        assert settler.status.last_error == ""
    finally:
        other.close()


def test_batches_are_bounded_also_in_readings(tmp_path, journal):
    for number in range(ROWS_PER_BATCH + 100):
        assert journal.append_reading(READING._replace(at=float(number)))
    far_end = FarEnd()
    until_quiet(settler_of(tmp_path, far_end))
    assert [len(batch.readings) for batch in far_end.put_batches] == [ROWS_PER_BATCH, 100]
