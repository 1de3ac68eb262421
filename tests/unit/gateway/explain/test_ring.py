"""What is kept is found again, whole or not at all: however often the ring went round, and however its owner ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.downstream.ids import new_request_id
from gateway.errors import BadRequest, NotFound
from gateway.explain import ring as rings
from gateway.explain.find import find
from gateway.explain.record import CANDIDATE, RECORD, SCHEMA
from gateway.explain.ring import HEADER_BYTES, MAX_PAYLOAD_BYTES, RECORD_BYTES, STEP_BYTES, Ring

MIB = 1024 * 1024
CODE = """
import sys
from pathlib import Path
from gateway.explain.record import SCHEMA
from gateway.explain.ring import Ring
from tests.unit.gateway.explain.test_ring import record
ring = Ring(Path(sys.argv[1]), 1 << 20, SCHEMA)
number = 0
while True:
    number += 1
    ring.append(record(f"req_{number:028x}", 300))
    if number % 100 == 0:
        print(number, flush=True)
"""


def record(request_id: str, size: int = 0, started_ms: int = 1_790_000_000_000) -> bytes:
    """A record of about `size` bytes."""
    values: dict[str, Any] = dict.fromkeys(RECORD, 0)
    values |= {"request_id": request_id, "started_ms": started_ms, "candidates": [], "dropped": [], "attempts": []}
    values |= {"outcome": "ok", "error": None, "preferences": None, "reason": "r" * size}
    return orjson.dumps(list(values.values()))


def size_of(request_id: str, size: int) -> int:
    return RECORD_BYTES + len(record(request_id, size))


def kept(directory: Path, request_id: str) -> dict[str, Any] | None:
    try:
        return find(directory, request_id)
    except NotFound:
        return None


def ids(count: int) -> list[str]:
    return [f"req_{number:028x}" for number in range(1, count + 1)]


@pytest.fixture
def ring(tmp_path: Path) -> Any:
    made = Ring(tmp_path, MIB, SCHEMA)
    yield made
    made.close()


@settings(max_examples=25)
@given(sizes=st.lists(st.integers(0, 60_000), min_size=1, max_size=120), turns=st.booleans())
def test_the_latest_are_there_whole_and_the_oldest_go_first(sizes: list[int], turns: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        ring = Ring(directory, MIB, SCHEMA)
        names = ids(len(sizes))
        for request_id, size in zip(names, sizes, strict=True):
            ring.append(record(request_id, size))
            if turns:  # its process ends after each
                ring.close()
                ring = Ring(directory, MIB, SCHEMA)
        ring.close()
        found = [kept(directory, request_id) for request_id in names]
        for request_id, size, document in zip(names, sizes, found, strict=True):
            assert document is None or (document["request_id"], len(document["reason"])) == (request_id, size)
        # As many as fit beside one that was cut in two and the rest of the file that was too short for the next.
        room, certain = STEP_BYTES - HEADER_BYTES - 2 * (MAX_PAYLOAD_BYTES + RECORD_BYTES), 0
        for request_id, size in reversed(list(zip(names, sizes, strict=True))):
            room -= size_of(request_id, size)
            if room < 0:
                break
            certain += 1
        assert all(found[len(names) - certain :])
        (path,) = directory.iterdir()
        assert path.stat().st_size == STEP_BYTES


@settings(max_examples=60)
@given(at=st.integers(0, 3_000), junk=st.binary(min_size=1, max_size=400))
def test_a_torn_record_is_skipped_and_its_neighbours_are_not(at: int, junk: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        ring = Ring(directory, MIB, SCHEMA)
        names = ids(8)
        ends = [HEADER_BYTES]
        for request_id in names:
            ring.append(record(request_id, 200))
            ends.append(ends[-1] + size_of(request_id, 200))
        ring.close()
        (path,) = directory.iterdir()
        content = bytearray(path.read_bytes())
        before = bytes(content)
        start = HEADER_BYTES + at
        content[start : start + len(junk)] = junk
        path.write_bytes(content)
        for number, request_id in enumerate(names):
            whole = before[ends[number] : ends[number + 1]] == bytes(content[ends[number] : ends[number + 1]])
            assert (kept(directory, request_id) is not None) is whole


def test_it_grows_as_it_is_used_up_to_its_size(tmp_path: Path) -> None:
    ring = Ring(tmp_path, 3 * MIB, SCHEMA)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size == STEP_BYTES
    names = ids(90)
    for request_id in names:
        ring.append(record(request_id, 50_000))
    assert path.stat().st_size == 3 * MIB
    assert kept(tmp_path, names[0]) is None
    assert all(kept(tmp_path, one) for one in names[-50:])
    ring.close()


def test_what_was_written_takes_no_memory_of_the_process(tmp_path: Path) -> None:
    """A full ring would else be most of what an idle gateway has."""
    ring = Ring(tmp_path, 16 * MIB, SCHEMA)
    (path,) = tmp_path.iterdir()
    names = ids(1_000)
    for request_id in names:  # more than once around
        ring.append(record(request_id, 40_000))
    assert path.stat().st_size == 16 * MIB
    of_ring = Path("/proc/self/smaps").read_text().partition(str(path))[2]
    resident = next(line for line in of_ring.splitlines() if line.startswith("Rss:"))
    assert int(resident.split()[1]) * 1024 <= STEP_BYTES + 2 * MAX_PAYLOAD_BYTES
    assert all(kept(tmp_path, one) for one in names[-300:])
    ring.close()


def test_where_the_disk_is_full_it_goes_round_in_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Ring(tmp_path, 8 * MIB, SCHEMA)

    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    names = ids(60)
    for request_id in names:
        ring.append(record(request_id, 50_000))
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size == STEP_BYTES
    assert kept(tmp_path, names[-1])
    ring.close()


def test_a_smaller_size_keeps_what_lies_within(tmp_path: Path) -> None:
    names = ids(40)
    for size in (2 * MIB, MIB):
        ring = Ring(tmp_path, size, SCHEMA)
        for request_id in names[:30] if size == 2 * MIB else names[30:]:
            ring.append(record(request_id, 50_000))
        ring.close()
    (path,) = tmp_path.iterdir()
    assert path.stat().st_size == MIB
    assert all(kept(tmp_path, one) for one in names[30:])


def test_two_processes_have_two_files_and_a_third_takes_up_what_is_free(tmp_path: Path) -> None:
    one, two = Ring(tmp_path, MIB, SCHEMA), Ring(tmp_path, MIB, SCHEMA)
    first, second, third = ids(3)
    one.append(record(first))
    two.append(record(second))
    one.close()
    three = Ring(tmp_path, MIB, SCHEMA)
    three.append(record(third))
    assert len(list(tmp_path.iterdir())) == 2
    assert all(kept(tmp_path, each) for each in (first, second, third))
    two.close()
    three.close()


def test_nothing_is_kept_after_its_end_and_nothing_too_long(ring: Ring, tmp_path: Path) -> None:
    long, late = ids(2)
    ring.append(record(long, MAX_PAYLOAD_BYTES))
    assert (ring.too_long, kept(tmp_path, long)) == (1, None)
    ring.close()
    ring.append(record(late))
    assert kept(tmp_path, late) is None


def test_only_its_user_may_read_it(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "decisions"
    Ring(directory, MIB, SCHEMA).close()
    (path,) = directory.iterdir()
    assert (path.stat().st_mode & 0o777, directory.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_file_of_another_schema_is_begun_anew(tmp_path: Path) -> None:
    old, new = ids(2)
    other = orjson.dumps({**orjson.loads(SCHEMA), "candidate": [*CANDIDATE, "queue_seconds"]})
    ring = Ring(tmp_path, MIB, other)
    ring.append(record(old))
    ring.close()
    assert kept(tmp_path, old)
    ring = Ring(tmp_path, MIB, SCHEMA)
    ring.append(record(new))
    ring.close()
    assert kept(tmp_path, new)
    assert kept(tmp_path, old) is None or len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"not a ring", b"x" * 2 * MIB, rings.MAGIC, rings.MAGIC + b"\xff" * MIB])
def test_what_is_no_ring_is_passed_over_and_made_one(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "0000.ring").write_bytes(content)
    (name,) = ids(1)
    assert kept(tmp_path, name) is None
    ring = Ring(tmp_path, MIB, SCHEMA)
    ring.append(record(name))
    ring.close()
    assert kept(tmp_path, name)


def test_what_a_killed_process_kept_is_there(tmp_path: Path) -> None:
    root = Path(__file__).parents[4]
    paths = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(root))))
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
        cwd=root,
        text=True,
    )
    assert process.stdout is not None
    told = 0
    while told < 5000:  # it has gone round
        told = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert all(kept(tmp_path, f"req_{number:028x}") for number in range(told - 500, told))
    ring = Ring(tmp_path, MIB, SCHEMA)  # its file is free
    after = new_request_id()
    ring.append(record(after))
    ring.close()
    assert len(list(tmp_path.iterdir())) == 1
    assert kept(tmp_path, after)
    assert kept(tmp_path, f"req_{told:028x}")


@pytest.mark.parametrize(
    "wrong", ["", "req_", "req_12", "REQ_" + "0" * 28, "req_" + "G" * 28, "req_" + "0" * 29, "é" * 32]
)
def test_what_is_no_id_is_said_to_be_none(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="is no request id"):
        find(tmp_path, wrong)


def test_what_may_have_happened_to_one_that_is_not_there(tmp_path: Path) -> None:
    now = time.time()

    def said(at: float) -> str:
        with pytest.raises(NotFound) as caught:
            find(tmp_path / "d", new_request_id(int(at * 1000)))
        return caught.value.message

    assert "no request has ended yet" in said(now)
    ring = Ring(tmp_path / "d", MIB, SCHEMA)
    assert "no request has ended yet" in said(now)
    ring.append(record(ids(1)[0], started_ms=int((now - 60) * 1000)))
    assert "what is kept there begins at" in said(now - 3600)
    assert "still under way" in said(now - 10)
    assert "has not come yet" in said(now + 3600)
    with pytest.raises(NotFound, match="after the year 9999, has not come yet"):
        find(tmp_path / "d", "req_" + "f" * 28)
    ring.close()
    with pytest.raises(NotFound, match="keeps no decisions"):
        find(None, new_request_id())
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file", tmp_path / "file" / "d"):
        with pytest.raises(NotADirectoryError):
            find(directory, new_request_id())


def test_the_oldest_after_a_turn_is_the_one_that_goes_next(tmp_path: Path) -> None:
    ring = Ring(tmp_path, MIB, SCHEMA)
    now = int(time.time())
    for number, request_id in enumerate(ids(105)):
        ring.append(record(request_id, 50_000, started_ms=(now - 1000 + number) * 1000))
    ring.close()
    with pytest.raises(NotFound, match="begins at") as caught:
        find(tmp_path, new_request_id((now - 5000) * 1000))
    spelled = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now - 1000 + 85))
    assert spelled in caught.value.message
