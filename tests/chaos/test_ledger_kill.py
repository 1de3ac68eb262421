"""kill -9 while the ledger writes: what it said was written is there, once, and the file still works."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gateway.ledger.report import build
from gateway.ledger.sqlite import SqliteStore
from tests.attempts import attempt

ROOT = Path(__file__).parents[2]

# Records attempts NAME-0, NAME-1, ... without end, SIZE at a time, and after each flush says how many are written.
WRITER = """
import sys
from gateway.ledger.writer import open_ledger
from tests.attempts import attempt

url, name, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
ledger = open_ledger(url)
count = 0
while True:
    for count in range(count, count + size):
        ledger.record(attempt(f"{name}-{count}", cost_nanousd=count))
    count += 1
    if not ledger.flush(30):
        sys.exit("the ledger could not be flushed")
    sys.stdout.write(f"{count}\\n")
    sys.stdout.flush()
"""


class Writer:
    """A process that writes until it is killed."""

    def __init__(self, url, name, size):
        arguments = [sys.executable, "-c", WRITER, url, name, str(size)]
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def flushed(self):
        """Wait for the next flush; how many attempts are written by then."""
        return int(self.process.stdout.readline())

    def kill(self):
        """Kill it in whatever it does; how many attempts it had said were written."""
        self.process.kill()
        said, _ = self.process.communicate()
        return int(said.split()[-1]) if said else 0


def numbers(path):
    """Request and cost of every attempt in a file that SQLite finds whole."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return connection.execute("SELECT request_id, cost_nanousd FROM attempts").fetchall()


@pytest.mark.parametrize("size", [1, 50, 3_000])
def test_what_was_flushed_survives_and_nothing_is_there_twice(tmp_path, size):
    path = tmp_path / "ledger.db"
    url = f"sqlite:///{path}"
    flushed = {}
    for round in range(6):
        writer = Writer(url, f"round{round}", size)
        for _ in range(1 + round % 3):
            flushed[f"round{round}"] = writer.flushed()
        flushed[f"round{round}"] = max(flushed[f"round{round}"], writer.kill())

    rows = numbers(path)
    assert len({request for request, _ in rows}) == len(rows)
    for name, count in flushed.items():
        kept = sorted(cost for request, cost in rows if request.startswith(f"{name}-"))
        assert len(kept) >= count > 0
        assert kept == list(range(len(kept)))  # batches are whole and in order, so what is lost is the newest
    assert build(url, by=[]).total[1] == len(rows)


def test_entering_again_what_may_have_been_lost_doubles_nothing(tmp_path):
    path = tmp_path / "ledger.db"
    writer = Writer(f"sqlite:///{path}", "r", 10)
    writer.flushed()
    writer.kill()
    before = {request for request, _ in numbers(path)}
    again = [attempt(f"r-{count}", cost_nanousd=count) for count in range(1_000)]
    store = SqliteStore(path)
    written = store.write(again)
    store.close()
    rows = [request for request, _ in numbers(path)]
    assert written.added == len(rows) - len(before) < len(again)
    assert len(rows) == len(set(rows)) == len(before | {one.request_id for one in again})


def test_a_killed_writer_does_not_hold_up_the_others(tmp_path):
    """Several processes on one file; the death of one leaves no lock behind."""
    path = tmp_path / "ledger.db"
    victim, survivor = (Writer(f"sqlite:///{path}", name, 500) for name in ("victim", "survivor"))
    survivor.flushed()
    killed_at = max(victim.flushed(), victim.kill())
    survivor.flushed()
    flushed = max(survivor.flushed(), survivor.kill())
    rows = numbers(path)
    assert len({request for request, _ in rows}) == len(rows)
    assert sum(request.startswith("victim-") for request, _ in rows) >= killed_at
    assert sum(request.startswith("survivor-") for request, _ in rows) >= flushed
