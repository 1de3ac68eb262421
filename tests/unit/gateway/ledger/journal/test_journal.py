"""A journal as its writer and its reader see it, with real files."""

from __future__ import annotations

import errno
import logging
import os
import resource
import secrets
import signal
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.ledger.journal.format import Entry
from gateway.ledger.journal.reader import Tail
from gateway.ledger.journal.writer import RESERVE, Journal, fresh_name
from gateway.ledger.record import Booking, Label, Reading
from gateway.ledger.store import LedgerError
from tests.eventually import eventually
from tests.unit.gateway.ledger.journal.rows import (
    LABEL,
    LINE,
    NEVER,
    READING,
    SEGMENT,
    any_attempt,
    attempts,
    numbers,
    records,
    request_id,
    row,
    segments,
    written,
)

ROOT = Path(__file__).parents[5]
AT_ONCE = 0.01  # seconds between two turns of the second thread


def fill(journal, first=0):
    """Settles requests `first`, ... until one is not taken, whose number is returned."""
    number = first
    while journal.append("settle", row(number)):
        number += 1
    return number


@contextmanager
def disk_full():
    """No file may grow to the size of a segment."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SEGMENT // 2, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# One after the other


@settings(max_examples=40, deadline=None)
@given(said=written, stops=st.lists(st.integers(0, 12), max_size=3))
def test_everything_is_read_once_in_its_order(tmp_path_factory, said, stops):
    """Whatever is said, wherever a segment ends, whenever a reader looks, and for one that begins anew as well."""
    root = tmp_path_factory.mktemp("journals")
    journal = Journal(root, "me", max_bytes=1 << 20, segment_bytes=2_048, sync_seconds=NEVER)
    try:
        tail = Tail(root / "me")
        taken, read = [], []
        for at, one in enumerate(said):
            if at in stops:
                read += records(tail)
            if isinstance(one, Reading):
                if journal.append_reading(one):
                    taken.append(one)
            elif journal.append(*one):
                taken.append(Entry(*one))
        read += records(tail)
        assert read == taken == records(Tail(root / "me"))
        assert not tail.damaged
        assert len(taken) == len(said), "all of it fits"
    finally:
        journal.close()


def test_a_segment_is_read_without_the_others(open_journal, tmp_path):
    journal = open_journal()
    labels = [Label("auto", f"user{number}") for number in range(3)]
    for number in range(90):
        assert journal.append("settle", row(number, label=labels[number % 3]))
    assert len(segments(journal)) > 2
    os.unlink(journal.directory / "00000001.log")
    tail = Tail(journal.directory)
    found = attempts(tail)
    assert found == [row(number, label=labels[number % 3]) for number in range(90 - len(found), 90)]
    assert tail.settled_before == 90 - len(found)
    assert tail.segment == len(segments(journal)) + 1


def test_a_record_counts_when_it_is_whole(open_journal):
    journal = open_journal()
    assert journal.append("settle", row(1))
    tail = Tail(journal.directory)
    assert numbers(tail) == [1]
    path = journal.directory / "00000001.log"
    at = len(path.read_bytes().rstrip(b"\0"))
    assert journal.append("settle", row(2))
    whole = path.read_bytes()
    with path.open("r+b") as file:
        for until in range(at, len(whole.rstrip(b"\0"))):
            file.seek(at)
            file.write(whole[at:until].ljust(len(whole) - at, b"\0"))
            file.flush()
            assert numbers(tail) == []
            assert tail.damaged == 0
        file.seek(at)
        file.write(whole[at:])
    assert numbers(tail) == [2]


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.lists(any_attempt, min_size=1, max_size=12))
def test_an_end_without_a_row_is_the_row_s(said, tmp_path):
    """The same bytes and figures as `append`, also where it fits nowhere and beyond the end of a segment."""
    roots = [tmp_path / secrets.token_hex(8) for _ in range(2)]
    rows, ends = [Journal(root, "me", max_bytes=1, segment_bytes=SEGMENT, sync_seconds=NEVER) for root in roots]
    bookings = {}
    try:
        for one in said:
            one = one._replace(correction=0, final=True)
            booking = bookings.setdefault((one.line, one.label), Booking(one.line, one.label))
            _, _, _, _, _, started_at, opened_at, ttft, *more = one
            rest = [*more[:4], *more[5:]]  # without `final`
            taken = ends.end(booking, one.request_id, one.number, started_at, opened_at, ttft, *rest)
            assert rows.append("settle", one) is taken
        assert rows.settled == ends.settled
        assert [path.read_bytes() for path in sorted(rows.directory.glob("*.log"))] == [
            path.read_bytes() for path in sorted(ends.directory.glob("*.log"))
        ]
    finally:
        for journal in (rows, ends):
            journal.close()


def test_numbers_of_a_booking_are_those_of_the_segment_being_written(open_journal):
    """In each of many, and in two journals that take turns."""
    journals = open_journal("one", segments=64), open_journal("two", segments=64)
    booking = Booking(LINE, LABEL)
    for number in range(200):
        for journal in journals[: 1 + number % 2]:
            if number % 7 == 0:
                assert journal.append("settle", row(number, label=Label(str(number))))
            assert journal.begin(booking, request_id(number), 1, 1.0, 2.0, 100 + number, 0, 1)
    for journal, step in zip(journals, (1, 2), strict=True):
        assert len(segments(journal)) >= 3
        found = [one for one in attempts(Tail(journal.directory)) if one.outcome == "crashed"]
        assert [one.request_id for one in found] == [request_id(number) for number in range(step - 1, 200, step)]
        assert {(one.line, one.label) for one in found} == {(LINE, LABEL)}


def test_names_and_modes(open_journal, tmp_path):
    journal = open_journal("x")
    fill(journal)
    mode = stat.S_IMODE(journal.directory.stat().st_mode)
    assert mode == 0o700
    for path in journal.directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert len({fresh_name() for _ in range(100)}) == 100  # of a thousand in a millisecond two may be alike
    earlier = fresh_name()
    time.sleep(0.002)
    assert earlier < fresh_name()


def test_a_new_root_is_for_its_user_alone(tmp_path):
    Journal(tmp_path / "a" / "b", "x", max_bytes=1, segment_bytes=SEGMENT).close()
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_what_fits_no_record_is_refused_and_harms_no_other(open_journal, caplog):
    journal = open_journal(segments=64)
    for number in range(40):
        assert journal.append("settle", row(number))
        assert not journal.append("settle", row(number, request_id="r"))
        assert not journal.append("intent", row(number, cost_nanousd=2**63))
        assert not journal.append("settle", row(number, label=Label("x" * SEGMENT)))
        assert not journal.append("settle", row(number, label=Label("\ud800")))
        assert not journal.append_reading(READING._replace(kv_usage=float("nan")))
        assert not journal.append_reading(READING._replace(worker="x" * SEGMENT))
    tail = Tail(journal.directory)
    assert numbers(tail) == list(range(40))
    assert tail.damaged == 0
    assert len(segments(journal)) < 6, "what does not fit turns no segment"
    assert "`r` is no request's id" in caplog.text


# Full


def test_it_holds_what_it_may_and_no_more(open_journal, caplog):
    journal = open_journal(segments=3)
    count = fill(journal)
    assert journal.full
    assert "journal_max_mb" in journal.last_error
    assert segments(journal) == ["00000001.log", "00000002.log", "00000003.log"]
    assert sum(path.stat().st_size for path in journal.directory.iterdir()) == 3 * SEGMENT
    assert numbers(Tail(journal.directory)) == list(range(count))
    assert not any(journal.append("settle", row(count)) for _ in range(100))
    assert caplog.text.count("journal is full") == 1
    assert not journal.append_reading(READING)


def test_the_reserve_is_for_ends(open_journal):
    journal = open_journal(segments=2, sync_seconds=AT_ONCE)
    count = 0
    while not journal.full:
        assert journal.append("settle", row(count))
        count += 1
        if journal._limit == SEGMENT and len(segments(journal)) == 2:
            eventually(lambda: journal.full or None, "the reserve is touched and there is no room for another segment")
    assert not journal.append("intent", row(count))
    assert not journal.append("checkpoint", row(count))
    ends = 0
    while journal.append("settle", row(count + ends)):
        ends += 1
    assert (ends + 2) * 140 > SEGMENT // RESERVE
    assert numbers(Tail(journal.directory)) == list(range(count + ends))


def test_room_that_is_made_is_used(open_journal):
    journal = open_journal(segments=2, sync_seconds=AT_ONCE)
    tail = Tail(journal.directory)
    taken = 0
    for _ in range(5):
        taken = fill(journal, taken)
        read = numbers(tail)
        assert read == list(range(taken - len(read), taken))
        tail.release(tail.segment)
        eventually(lambda: not journal.full or None, "there is room again")
        assert journal.last_error == ""
    assert len(segments(journal)) <= 2
    assert tail.segment > 4


def test_a_disk_that_is_full_and_then_is_not(open_journal, caplog):
    journal = open_journal(segments=100, sync_seconds=AT_ONCE)
    with disk_full():
        count = fill(journal)
        assert journal.full
        assert os.strerror(errno.EFBIG) in journal.last_error
        assert segments(journal) == ["00000001.log"]
        eventually(  # the second thread tries again and again, and leaves nothing when it fails
            lambda: sorted(os.listdir(journal.directory)) == ["00000001.log", "owner"], "nothing half made is left"
        )
    eventually(lambda: not journal.full or None, "there is room again")
    for number in range(count, count + 100):
        assert journal.append("settle", row(number))
    assert numbers(Tail(journal.directory)) == list(range(count + 100))


def test_a_disk_without_any_room(tmp_path):
    """A file system as small as that: the error is the disk's own."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount")
    try:
        journal = Journal(tmp_path, "me", max_bytes=1 << 20, segment_bytes=SEGMENT, sync_seconds=AT_ONCE)
        count = fill(journal)
        assert journal.full
        assert os.strerror(errno.ENOSPC) in journal.last_error
        assert numbers(Tail(journal.directory)) == list(range(count))
        with pytest.raises(LedgerError, match=r"make room on its disk"):
            Journal(tmp_path, "other", max_bytes=1 << 20, segment_bytes=SEGMENT)
        tail = Tail(journal.directory)
        numbers(tail)
        tail.release(tail.segment)
        eventually(lambda: not journal.full or None, "there is room again")
        assert journal.append("settle", row(count))
        assert numbers(tail) == [count]
        journal.close()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_journal_that_cannot_begin_leaves_nothing(tmp_path):
    with disk_full(), pytest.raises(LedgerError, match="make room on its disk"):
        Journal(tmp_path, "me", max_bytes=1 << 20, segment_bytes=SEGMENT)
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match="cannot be written"):
        Journal(tmp_path / "file", "me", max_bytes=1 << 20, segment_bytes=SEGMENT)
    Journal(tmp_path, "me", max_bytes=1 << 20, segment_bytes=SEGMENT).close()
    with pytest.raises(LedgerError, match="cannot be written"):  # a name that is taken
        Journal(tmp_path, "me", max_bytes=1 << 20, segment_bytes=SEGMENT)
    assert os.listdir(tmp_path / "me")


def test_a_directory_that_is_taken_away(open_journal, caplog):
    """Appending goes on in the segment that is open, then says that it cannot; nothing raises."""
    journal = open_journal()
    tail = Tail(journal.directory)
    journal.append("settle", row(0))
    assert numbers(tail) == [0]
    journal.directory.rename(journal.directory.with_name("elsewhere"))
    fill(journal, 1)
    assert journal.full
    assert "No such file" in journal.last_error
    assert records(tail) == []
    assert tail.is_dead()
    tail.release(99)


def test_a_spare_segment_that_somebody_changed(open_journal):
    journal = open_journal(sync_seconds=AT_ONCE)
    while not (journal.directory / "spare").exists():
        assert journal.append("settle", row(0))
        eventually(lambda: journal._is_ready or journal._limit < SEGMENT or None, "the next segment is ready")
    os.truncate(journal.directory / "spare", 10)
    count = 1
    while journal.append("settle", row(count)):
        count += 1
        assert count < 1_000
    assert "the spare segment was changed" in journal.last_error
    eventually(lambda: not journal.full or None, "another one is made")
    assert journal.append("settle", row(count))


# The end of a writer


def test_after_its_end(open_journal):
    journal = open_journal()
    assert journal.append("settle", row(1))
    tail = Tail(journal.directory)
    assert not tail.is_dead()
    journal.close()
    journal.close()
    assert tail.is_dead()
    assert not journal.append("settle", row(2))
    assert not journal.append("intent", row(2))
    assert not journal.append_reading(READING)
    assert numbers(tail) == [1]
    tail.remove()
    assert not journal.directory.exists()
    tail.remove()


WRITER = """
import sys
from pathlib import Path
from gateway.ledger.journal.writer import Journal
from tests.unit.gateway.ledger.journal.rows import row

journal = Journal(Path(sys.argv[1]), "me", max_bytes=int(sys.argv[2]), segment_bytes=4096, sync_seconds=0.005)
number = 0
while True:
    while not journal.append("settle", row(number)):
        pass
    number += 1
    if number % 50 == 0:
        print(number, flush=True)
"""


@contextmanager
def another_writer(root, max_bytes):
    """A process that appends requests 0, 1, ... as fast as it can, and says how far it is."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root), str(max_bytes)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("max_bytes", [3 * 4_096, 1 << 20], ids=["always full", "roomy"])
def test_reader_and_writer_side_by_side_until_it_is_killed(tmp_path, max_bytes):
    """Every record once and in order, whatever the reader finds half written; all that was said is there at the end."""
    with another_writer(tmp_path, max_bytes) as process:
        assert int(process.stdout.readline()) > 0
        tail = Tail(tmp_path / "me")
        read, deadline = 0, time.monotonic() + 1.5
        while time.monotonic() < deadline:
            found = numbers(tail)
            assert found == list(range(read, read + len(found)))
            read += len(found)
            assert not tail.is_dead()
            tail.release(tail.segment)
            assert len(list(tail.directory.glob("*.log"))) <= max(3, max_bytes // 4_096)
        process.send_signal(signal.SIGKILL)
        said = [int(line) for line in process.communicate()[0].split()]
        assert tail.is_dead()
        found = numbers(tail)
        assert found == list(range(read, read + len(found)))
        assert read + len(found) >= max(said) > 0
        assert tail.damaged == 0
        assert tail.settled_before == 0
        tail.remove()
        assert tail.damaged == 0
        assert os.listdir(tmp_path) == []


def test_a_reader_that_begins_again_in_the_middle(open_journal):
    journal = open_journal(segments=64)
    for number in range(100):
        journal.append("settle", row(number))
    tail = Tail(journal.directory)
    some: list[int] = []
    while len(some) < 60:
        some += [one.attempt().prompt_tokens - 100 for one in tail.read(60 - len(some))]
    assert some == list(range(60))
    tail.release(tail.segment)
    again = numbers(Tail(journal.directory))
    assert again == list(range(100 - len(again), 100))
    assert len(again) > 40, "the segment it stopped in is read from its beginning"
    assert numbers(tail) == list(range(60, 100)), "and the one that stopped goes on where it was"


def test_segments_are_released_under_the_writer(open_journal):
    journal = open_journal(segments=3, sync_seconds=AT_ONCE)
    tail = Tail(journal.directory)
    read = []
    number = 0
    while number < 2_000:
        if journal.append("settle", row(number)):
            number += 1
        if number % 7 == 0:
            read += numbers(tail)
            tail.release(tail.segment + 5)
    read += numbers(tail)
    assert read == list(range(2_000))
    assert tail.damaged == 0


def test_checkpoints_and_intents_are_told_apart(open_journal):
    journal = open_journal()
    said = [("intent", row(1)), ("checkpoint", row(1, output_tokens=64)), ("settle", row(1, output_tokens=70))]
    for kind, attempt in said:
        assert journal.append(kind, attempt)
    assert journal.append_reading(READING)
    assert records(Tail(journal.directory)) == [*(Entry(*one) for one in said), READING]
    assert journal.settled == 1
    assert request_id(1) == said[0][1].request_id
    assert said[0][1].label == LABEL


def test_a_disk_that_fails_to_keep_is_said(open_journal, caplog):
    journal = open_journal(sync_seconds=AT_ONCE)
    caplog.set_level(logging.ERROR)
    os.close(journal._file)
    try:
        eventually(lambda: "cannot be brought to the disk" in journal.last_error or None, "it says so")
    finally:
        journal._file = os.open(journal.directory / "owner", os.O_RDWR)
