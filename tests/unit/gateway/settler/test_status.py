"""The settler's word about itself: whole, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.settler.status import NAME, Status, read_status, write_status


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    status = Status(at=1.5, pid=7, settled=3, last_error="away", journals={"a": 3}, drift={"w0": 0.01})
    write_status(tmp_path, status)
    assert read_status(tmp_path) == status
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_only_its_user_may_read_it(tmp_path: Path) -> None:
    (tmp_path / f".{NAME}").write_text("what a killed one left")
    write_status(tmp_path, Status(settled=1))
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    assert read_status(tmp_path).settled == 1


@pytest.mark.parametrize("written", [None, "", "{", "[]", "7", '{"settled": 1, "of_a_later_version": 2}'])
def test_what_is_missing_or_strange_is_no_trouble(tmp_path: Path, written: str | None) -> None:
    if written is not None:
        (tmp_path / NAME).write_text(written)
    assert read_status(tmp_path).settled in (0, 1)


def test_a_directory_that_is_gone_is_no_trouble(tmp_path: Path) -> None:
    write_status(tmp_path / "gone", Status())
    assert read_status(tmp_path / "gone") == Status()
