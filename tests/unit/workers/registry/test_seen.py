"""A checkpoint is read once as long as nothing of it is touched, and again as soon as something is."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.unit.workers.registry.scene import artifact
from workers.registry import seen
from workers.registry.digest import CannotDigest, FileDigest, digest_of_artifact, hash_file
from workers.registry.seen import Seen


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were read."""
    found: list[str] = []

    def counted(path: Path) -> FileDigest:
        found.append(path.name)
        return hash_file(path)

    monkeypatch.setattr(seen, "hash_file", counted)
    return found


def later() -> int:
    """When what is written now has settled."""
    return time.time_ns() + 10 * seen.SETTLED_NS


def digest(directory: Path, cache: Path) -> str:
    known = Seen(cache, later)
    found = known.digest_of_artifact(directory)
    known.keep()
    return found


def test_it_is_the_artifacts_digest_and_found_without_reading(tmp_path: Path, reads: list[str]):
    made = artifact(tmp_path / "made")
    assert digest(made, tmp_path / "run" / "cache") == digest_of_artifact(made)
    assert sorted(reads) == ["config.json", "manifest.json", "model.safetensors", "more.safetensors"]
    reads.clear()
    assert digest(made, tmp_path / "run" / "cache") == digest_of_artifact(made)
    assert reads == []


def test_a_change_that_keeps_size_and_time_of_writing_is_seen(tmp_path: Path, reads: list[str]):
    made = artifact(tmp_path / "made")
    before = digest(made, tmp_path / "cache")
    weights = made / "model.safetensors"
    times = weights.stat()
    weights.write_text("weighty")
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    reads.clear()
    assert digest(made, tmp_path / "cache") == digest_of_artifact(made) != before
    assert reads == ["model.safetensors"]


def test_another_file_in_its_place_is_seen(tmp_path: Path):
    made = artifact(tmp_path / "made")
    before = digest(made, tmp_path / "cache")
    (tmp_path / "new").write_text("weighty")
    os.replace(tmp_path / "new", made / "model.safetensors")
    assert digest(made, tmp_path / "cache") == digest_of_artifact(made) != before


def test_what_was_written_just_now_is_read_again(tmp_path: Path, reads: list[str]):
    made = artifact(tmp_path / "made")
    for _ in range(2):
        known = Seen(tmp_path / "cache")
        known.digest_of_artifact(made)
        known.keep()
    assert reads.count("config.json") == 2


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"x": 1}', '{"x": [[1], "a"]}', '{"x": [1, 2]}', "\x00"])
def test_a_cache_that_is_none_only_costs_time(tmp_path: Path, content: str):
    made = artifact(tmp_path / "made")
    (tmp_path / "cache").write_text(content)
    assert digest(made, tmp_path / "cache") == digest_of_artifact(made)


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path):
    made = artifact(tmp_path / "made")
    (tmp_path / "file").touch()
    assert digest(made, tmp_path / "file" / "cache") == digest_of_artifact(made)


def test_files_that_are_gone_are_forgotten(tmp_path: Path):
    made = artifact(tmp_path / "made")
    digest(made, tmp_path / "cache")
    (made / "sub" / "more.safetensors").rename(tmp_path / "elsewhere")
    (made / "config.json").write_text("[]")
    digest(made, tmp_path / "cache")
    assert "more.safetensors" not in (tmp_path / "cache").read_text()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refused(path: Path) -> FileDigest:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(seen, "hash_file", refused)
    with pytest.raises(CannotDigest, match="cannot be read: Permission denied"):
        Seen(tmp_path / "cache").digest_of_artifact(artifact(tmp_path / "made"))
