from __future__ import annotations

from pathlib import Path

import pytest

from workers.directories import replaced


def test_the_new_content_takes_the_place_of_the_old(tmp_path: Path) -> None:
    target = tmp_path / "models" / "a"
    target.mkdir(parents=True)
    (target / "old").write_text("old")

    with replaced(target) as directory:
        (directory / "new").write_text("new")
        assert (target / "old").exists()

    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in target.parent.iterdir()] == ["a"]


def test_a_failure_leaves_everything_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.mkdir()
    (target / "old").write_text("old")

    def fail() -> None:
        with replaced(target) as directory:
            (directory / "half").write_text("half")
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        fail()

    assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_files_are_readable_by_everyone(tmp_path: Path) -> None:
    with replaced(tmp_path / "a") as directory:
        (directory / "weights").touch(mode=0o600)

    assert (tmp_path / "a" / "weights").stat().st_mode & 0o777 == 0o644
