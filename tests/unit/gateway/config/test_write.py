"""A file of the directory is replaced in one step or not at all."""

import fcntl
import os
import threading

import pytest

from gateway.config.write import rewrite


def test_the_text_is_replaced_and_the_permissions_stay(tmp_path):
    path = tmp_path / "tenants.yaml"
    path.write_bytes(b"a: 1\r\n")
    path.chmod(0o640)
    rewrite(path, lambda text: text + "b: é\r\n")
    assert path.read_bytes() == "a: 1\r\nb: é\r\n".encode()
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["tenants.yaml"]


def test_a_link_stays_a_link(tmp_path):
    real = tmp_path / "real" / "tenants.yaml"
    real.parent.mkdir()
    real.write_text("a: 1\n")
    link = tmp_path / "tenants.yaml"
    link.symlink_to(real)
    rewrite(link, str.upper)
    assert link.is_symlink()
    assert real.read_text() == "A: 1\n"


def test_an_edit_that_fails_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "tenants.yaml"
    path.write_text("a: 1\n")

    def fail(text):
        raise RuntimeError(text)

    with pytest.raises(RuntimeError):
        rewrite(path, fail)
    with pytest.raises(UnicodeEncodeError):
        rewrite(path, lambda _: "\ud800")
    assert path.read_text() == "a: 1\n"
    assert os.listdir(tmp_path) == ["tenants.yaml"]


def test_a_disk_that_refuses_leaves_no_half_file(tmp_path, monkeypatch):
    path = tmp_path / "tenants.yaml"
    path.write_text("a: 1\n")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        rewrite(path, str.upper)
    assert path.read_text() == "a: 1\n"
    assert os.listdir(tmp_path) == ["tenants.yaml"]


def test_two_writers_take_turns(tmp_path):
    """While one holds the directory the other waits, and then sees what the first wrote."""
    path = tmp_path / "tenants.yaml"
    path.write_text("")
    holder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    seen = []
    waiting = threading.Thread(target=rewrite, args=(path, lambda text: seen.append(text) or text + "second\n"))
    waiting.start()
    path.write_text("first\n")
    assert seen == []
    os.close(holder)
    waiting.join(10)
    assert path.read_text() == "first\nsecond\n"


def test_many_writers_lose_nothing(tmp_path):
    path = tmp_path / "tenants.yaml"
    path.write_text("")
    writers = [
        threading.Thread(target=rewrite, args=(path, lambda text, number=number: f"{text}{number}\n"))
        for number in range(20)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(10)
    assert sorted(map(int, path.read_text().split())) == list(range(20))


def test_a_file_that_is_not_there_is_made(tmp_path):
    rewrite(tmp_path / "models.yaml", lambda text: text + "models: {}\n")
    assert (tmp_path / "models.yaml").read_text() == "models: {}\n"
    assert (tmp_path / "models.yaml").stat().st_mode & 0o777 == 0o644


def test_what_a_killed_command_left_is_cleared(tmp_path):
    for name in (".tenants.yaml.abcd_123", ".tenants.yaml.swp", ".models.yaml.abcd_123"):
        (tmp_path / name).touch()
    rewrite(tmp_path / "tenants.yaml", lambda text: text + "a: 1\n")
    assert sorted(os.listdir(tmp_path)) == [".models.yaml.abcd_123", ".tenants.yaml.swp", "tenants.yaml"]
