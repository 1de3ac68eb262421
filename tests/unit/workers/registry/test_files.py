"""Files on file systems that share blocks, and on those that lack links or cannot flush a directory."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path

import pytest

from tests.unit.workers.registry.scene import NAME, artifact, asked, evaluation
from workers.registry import files
from workers.registry.audit import audit
from workers.registry.digest import hash_file, unheard
from workers.registry.registration import register
from workers.registry.store import Store


def test_what_is_copied_is_what_was_read(tmp_path: Path):
    (tmp_path / "source").write_bytes(b"weights" * 500_000)
    done: list[int] = []
    assert files.copy(tmp_path / "source", tmp_path / "target", done.append) == hash_file(tmp_path / "source")
    assert sum(done) == (tmp_path / "target").stat().st_size == 3_500_000
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o444


def test_shared_blocks_are_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = tmp_path / "source"
    source.write_bytes(b"weights")

    def share(target: object, request: int, descriptor: int) -> int:
        assert request == 0x40049409
        with os.fdopen(os.dup(descriptor), "rb") as reading:
            shutil.copyfileobj(reading, target)
        return 0

    monkeypatch.setattr(fcntl, "ioctl", share)
    done: list[int] = []
    assert files.copy(source, tmp_path / "target", done.append) == hash_file(source)
    assert sum(done) == 7


def test_another_error_than_not_here_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "source").touch()
    monkeypatch.setattr(fcntl, "ioctl", broken)
    with pytest.raises(OSError, match="Input/output error"):
        files.copy(tmp_path / "source", tmp_path / "target", unheard)


@pytest.mark.parametrize("links", [True, False])
def test_a_name_is_given_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool):
    if not links:
        monkeypatch.setattr(os, "link", without_links)
    for name in ("one", "two"):
        files.write(tmp_path / name, name.encode())
    files.name(tmp_path / "one", tmp_path / "target")
    with pytest.raises(FileExistsError):
        files.name(tmp_path / "two", tmp_path / "target")
    assert (tmp_path / "target").read_text() == "one"


def without_links(*_: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


def test_a_mounted_object_store_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without hard links, without shared blocks, without a flush of directories."""
    flush = os.fsync

    def only_files(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        flush(descriptor)

    monkeypatch.setattr(os, "link", without_links)
    monkeypatch.setattr(os, "fsync", only_files)
    made = artifact(tmp_path / "made")
    store = Store(tmp_path / "registry")
    for _ in range(2):
        register(asked(made, evaluation(tmp_path / "proof", made)), store)
    assert len(store.history(NAME)) == 1
    assert audit(store, store.digests()) == []


def test_removing_what_is_not_there_is_no_error(tmp_path: Path):
    files.remove(tmp_path / "nothing")
    (tmp_path / "directory" / "below").mkdir(parents=True)
    files.remove(tmp_path / "directory")
    assert list(tmp_path.iterdir()) == []
