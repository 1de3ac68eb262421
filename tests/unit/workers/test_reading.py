"""Files that are none, or never end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workers.reading import content, opened


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"as it is")
    link = tmp_path / "link"
    link.symlink_to(file)

    assert content(file) == content(link, most=8) == b"as it is"


def test_what_may_never_end_is_not_begun(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")

    for path in (tmp_path / "pipe", tmp_path / "device", tmp_path):
        with pytest.raises(OSError, match=r"regular file|directory"):
            opened(path)


def test_more_than_may_be_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(1 << 40)

    with pytest.raises(OSError, match="larger than 64 MiB"):
        content(tmp_path / "file")
