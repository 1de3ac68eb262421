"""What a reader may meet in the directories of journals, and how journals come there."""

from __future__ import annotations

import os
import threading
import time

import pytest

from gateway.ledger.journal.reader import Tail, journals
from gateway.ledger.journal.writer import ABANDONED_SECONDS, Journal, fresh_name
from gateway.ledger.store import LedgerError
from tests.eventually import eventually
from tests.unit.gateway.ledger.journal.rows import NEVER, SEGMENT, numbers, records, row, segments


def test_strangers_in_the_directories(open_journal, tmp_path):
    journal = open_journal()
    strangers = ("x.log", "1.log", "-0000001.log", "00000002.log.bak", "0000000a.log", "٠٠٠٠٠٠٠٩.log", ".log", "notes")
    for name in strangers:
        (journal.directory / name).write_text("hello")
    (tmp_path / "settler.json").write_text("{}")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "stranger").mkdir()
    (tmp_path / "stranger" / "00000001.log").write_text("of somebody else")
    assert journals(tmp_path) == ["me"]
    assert journals(tmp_path / "nowhere") == []
    assert not (tmp_path / "empty").exists()
    journal.append("settle", row(1))
    tail = Tail(journal.directory)
    assert numbers(tail) == [1]
    tail.release(99)
    journal.close()
    assert numbers(tail) == []
    tail.remove()
    assert sorted(path.name for path in journal.directory.iterdir()) == sorted(strangers), "what is others' stays"
    assert (tmp_path / "stranger" / "00000001.log").exists()
    assert journals(tmp_path) == []
    with pytest.raises(LedgerError, match="cannot be read"):
        journals(tmp_path / "settler.json")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"\xff" * len(data),
        lambda data: b"ANOTHER-JOURNAL 999" + data[19:],
        lambda data: data[:600] + b"\xff" + data[601:],
        lambda data: data[:512] + bytes(512) + data[1_024:],  # a page that power was lost before
    ],
    ids=["noise", "another format", "a flipped byte", "a lost page"],
)
@pytest.mark.parametrize("dead", [False, True])
def test_a_damaged_segment_is_read_up_to_there_and_kept(open_journal, tmp_path, damage, dead, caplog):
    journal = open_journal(segments=64)
    number = 0
    while len(segments(journal)) < 3:
        assert journal.append("settle", row(number))
        number += 1
    victim = journal.directory / ("00000003.log" if dead else "00000002.log")
    if dead:
        while journal._at < SEGMENT // 2:
            journal.append("settle", row(number))
            number += 1
        journal.close()
    before = victim.read_bytes()
    victim.write_bytes(damage(before))
    tail = Tail(journal.directory)
    found = numbers(tail)
    assert found == sorted(set(found))
    assert set(found) < set(range(number))
    if not dead:
        assert tail.damaged == 1
        assert found[-1] == number - 1, "the segments after it are read"
        assert records(tail) == []
        assert tail.damaged == 1
        tail.release(3)
    else:
        tail.remove()
        assert tail.damaged == 1
    kept = [path for path in tmp_path.iterdir() if path.is_file()]
    assert [path.name for path in kept] == [f"damaged-me-{victim.name}"]
    assert kept[0].read_bytes() == damage(before)
    assert "is damaged" in caplog.text
    assert journals(tmp_path) == ([] if dead else ["me"])


def test_an_empty_segment_and_one_that_is_gone(open_journal):
    journal = open_journal(segments=64)
    number = 0
    while len(segments(journal)) < 4:
        journal.append("settle", row(number))
        number += 1
    os.truncate(journal.directory / "00000001.log", 0)
    os.unlink(journal.directory / "00000002.log")
    tail = Tail(journal.directory)
    found = numbers(tail)
    assert found == list(range(found[0], number))
    (journal.directory / "00000004.log").unlink()
    assert numbers(tail) == []
    tail.release(99)


def test_what_the_disk_refuses_is_said_and_read_later(open_journal):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    journal = open_journal()
    journal.append("settle", row(1))
    tail = Tail(journal.directory)
    (journal.directory / "00000001.log").chmod(0)
    with pytest.raises(LedgerError, match="let this user read"):
        numbers(tail)
    (journal.directory / "00000001.log").chmod(0o600)
    assert numbers(tail) == [1]


def test_a_segment_that_is_no_file(open_journal):
    """Said, and nothing is passed over: reading goes on when it is put right."""
    journal = open_journal(segments=64)
    while len(segments(journal)) < 3:
        journal.append("settle", row(7))
    segment, away = journal.directory / "00000002.log", journal.directory / "away"
    segment.rename(away)
    segment.mkdir()
    tail = Tail(journal.directory)
    with pytest.raises(LedgerError, match="cannot be read"):
        records(tail)
    segment.rmdir()
    away.rename(segment)
    before = tail.segment
    assert before == 2
    assert records(tail)


# Before it is whole


def test_it_is_shown_when_it_is_claimed(tmp_path):
    """Whoever finds a journal finds its lock held: a reader that takes it for a dead one's would remove it."""
    seen, stop = set(), threading.Event()

    def watch():
        while not stop.is_set():
            seen.update((name, Tail(tmp_path / name).is_dead()) for name in journals(tmp_path))

    watcher = threading.Thread(target=watch)
    watcher.start()
    names = [f"{number:03d}" for number in range(50)]
    opened = [Journal(tmp_path, name, max_bytes=1, segment_bytes=SEGMENT, sync_seconds=NEVER) for name in names]
    eventually(lambda: seen >= {(name, False) for name in names} or None, "all are seen")
    stop.set()
    watcher.join()
    for journal in opened:
        journal.close()
    assert seen == {(name, False) for name in names}


def test_what_processes_left_that_died_at_their_start_is_swept(tmp_path):
    claimed, fresh, old = (tmp_path / f".{fresh_name()}" for _ in range(3))
    snapshots = tmp_path / ".snapshots"
    for directory in (claimed, fresh, old, snapshots):
        directory.mkdir()
        (directory / "spare").write_bytes(bytes(SEGMENT))
    (claimed / "owner").touch()
    long_ago = time.time() - 2 * ABANDONED_SECONDS
    for directory in (old, snapshots):
        os.utime(directory, (long_ago, long_ago))
    living = Journal(tmp_path, "living", max_bytes=1, segment_bytes=SEGMENT)
    try:
        hidden = living.directory.rename(tmp_path / f".{fresh_name()}")
        Journal(tmp_path, "me", max_bytes=1, segment_bytes=SEGMENT).close()
        assert {path.name for path in tmp_path.iterdir()} == {fresh.name, ".snapshots", hidden.name, "me"}
    finally:
        living.close()


def test_a_journal_without_its_lock_file_is_left_alone(open_journal, tmp_path):
    """Somebody removed it: whether the writer lives is not known, so nothing is taken from it."""
    journal = open_journal()
    tail = Tail(journal.directory)
    (journal.directory / "owner").unlink()
    assert not tail.is_dead()
    assert journals(tmp_path) == []
    assert journal.append("settle", row(1))
    assert numbers(tail) == [1]
