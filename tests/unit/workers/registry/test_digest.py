"""What an artifact's digest says, and what it does not depend on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.registry.digest import (
    CannotDigest,
    FileDigest,
    digest_of_artifact,
    digest_of_files,
    files_of_artifact,
    hash_file,
)

FILES = {"config.json": b"{}", "model.safetensors": b"\0" * 3000, "onnx/model.onnx": b"graph"}

contents = st.binary(min_size=32, max_size=32).map(lambda content: FileDigest(0, content.hex()))
names = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=8)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return written(tmp_path / "artifact", FILES)


def written(directory: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    return directory


def test_the_same_files_have_the_same_digest_wherever_and_whenever_they_were_written(artifact: Path, tmp_path: Path):
    other = written(tmp_path / "elsewhere", dict(reversed(FILES.items())))
    os.utime(other / "config.json", (1, 1))
    (other / "config.json").chmod(0o600)
    (other / "empty").mkdir()
    assert digest_of_artifact(artifact) == digest_of_artifact(other)


def test_the_digest_does_not_change_between_versions_of_this_program(artifact: Path):
    assert digest_of_artifact(artifact) == "sha256:e8ff6a85298f154d75c960eac8d7d29f30e7100c33bbdcb4181dd5f291857d98"


@pytest.mark.parametrize("name", FILES)
def test_every_byte_of_every_file_counts(artifact: Path, name: str):
    before = digest_of_artifact(artifact)
    content = bytearray(FILES[name])
    content[-1] ^= 1
    (artifact / name).write_bytes(content)
    assert digest_of_artifact(artifact) != before


@pytest.mark.parametrize("change", ["added", "missing", "renamed", "moved"])
def test_so_does_every_name(artifact: Path, change: str):
    before = digest_of_artifact(artifact)
    if change == "added":
        (artifact / "onnx" / "extra").touch()
    elif change == "missing":
        (artifact / "config.json").unlink()
    elif change == "renamed":
        (artifact / "config.json").rename(artifact / "config.json~")
    else:
        (artifact / "config.json").rename(artifact / "onnx" / "config.json")
    assert digest_of_artifact(artifact) != before


def test_what_an_evaluation_leaves_beside_it_and_hidden_files_are_not_part_of_it(artifact: Path):
    before = digest_of_artifact(artifact)
    beside = ["evaluation.json", "report.html", "report.md", "plots/a.svg", ".cache/x", "onnx/.DS_Store"]
    written(artifact, dict.fromkeys(beside, b"x"))
    assert digest_of_artifact(artifact) == before


def test_only_at_the_top_are_those_names_special(artifact: Path):
    before = digest_of_artifact(artifact)
    written(artifact, {"onnx/report.md": b"x"})
    assert digest_of_artifact(artifact) != before


def test_a_link_to_a_file_stands_for_the_file(artifact: Path, tmp_path: Path):
    before = digest_of_artifact(artifact)
    (artifact / "model.safetensors").rename(tmp_path / "blob")
    (artifact / "model.safetensors").symlink_to(tmp_path / "blob")
    assert digest_of_artifact(artifact) == before


@pytest.mark.parametrize("odd", ["dangling", "directory", "pipe"])
def test_what_a_digest_cannot_fix_is_refused(artifact: Path, tmp_path: Path, odd: str):
    if odd == "pipe":
        os.mkfifo(artifact / "odd")
    else:
        (artifact / "odd").symlink_to(tmp_path / "nothing" if odd == "dangling" else tmp_path)
    with pytest.raises(CannotDigest, match=r"artifact/odd is neither a file nor a directory"):
        digest_of_artifact(artifact)


def test_what_is_no_artifact_is_refused(tmp_path: Path):
    with pytest.raises(CannotDigest, match="is empty"):
        digest_of_artifact(tmp_path)
    with pytest.raises(CannotDigest, match="is no directory"):
        digest_of_artifact(tmp_path / "missing")


def test_a_file_that_cannot_be_read_is_named(artifact: Path):
    def refused(path: Path) -> FileDigest:
        raise PermissionError(13, "Permission denied", str(path))

    with pytest.raises(CannotDigest, match=r"config\.json cannot be read: Permission denied"):
        files_of_artifact(artifact, refused)


def test_files_are_told_with_their_size(artifact: Path):
    assert {name: file.size for name, file in files_of_artifact(artifact).items()} == {
        name: len(content) for name, content in FILES.items()
    }
    assert hash_file(artifact / "config.json").sha256.startswith("44136fa355b3678a1146ad16f7e8649e")


@given(st.dictionaries(names, contents), st.dictionaries(names, contents))
def test_two_different_sets_of_files_never_have_the_same_digest(one: dict[str, FileDigest], two: dict[str, FileDigest]):
    assert (digest_of_files(one) == digest_of_files(two)) == (one == two)
