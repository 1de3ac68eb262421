"""Held-out text: what is read, what is refused, what is cut of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import WrongUsage
from workers.evaluation.texts import CHARACTERS_PER_TOKEN, Text, built_in, read


def test_the_built_in_text_is_what_no_demo_model_was_trained_on() -> None:
    text = built_in()
    assert len(text.documents) > 10
    assert sum(map(len, text.documents)) > 200_000
    assert any("class OptionParser" in document for document in text.documents)
    assert text.sha256 == built_in().sha256


def test_a_directory_of_text_and_rows(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "a.md").write_text("first")
    (tmp_path / "ignored.bin").write_bytes(b"\xff")
    rows = ["third", {"text": "fourth"}, {"messages": [{"content": "fifth"}, {"content": "sixth"}]}, {"prompt": "7"}]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert read(tmp_path).documents == ("first", "second", "third", "fourth", "fifth\nsixth", "7")
    assert read(tmp_path / "b.txt").documents == ("second",)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"", "no text"),
        ("a.txt", b"\xff\xfe", "not UTF-8 at byte 0"),
        ("a.jsonl", b'{"text": "a"}\n{', "line 2 is not JSON"),
        ("a.jsonl", b'{"other": 1}', "line 1 has no text; give each row one of: text"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WrongUsage, match=says):
        read(tmp_path / name)


def test_nothing_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match="no such file"):
        read(tmp_path / "missing")
    with pytest.raises(WrongUsage, match=r"has none of: .*\.txt"):
        read(tmp_path)


DOCUMENTS = st.lists(st.text(min_size=1, max_size=200), min_size=1, max_size=5)


@given(DOCUMENTS, st.integers(1, 8), st.integers())
def test_pieces_are_all_of_the_text_each_once(documents: list[str], tokens: int, seed: int) -> None:
    text = Text("t", tuple(documents))
    pieces = list(text.pieces(tokens, seed))
    assert sorted("".join(pieces)) == sorted("".join(documents))
    assert all(0 < len(piece) <= tokens * CHARACTERS_PER_TOKEN for piece in pieces)
    assert pieces == list(text.pieces(tokens, seed))


@given(DOCUMENTS, st.integers(1, 8), st.integers())
def test_long_pieces_go_on_in_the_next_document(documents: list[str], tokens: int, seed: int) -> None:
    length = tokens * CHARACTERS_PER_TOKEN
    text, whole = Text("t", tuple(documents)), "\n\n".join(documents)
    pieces = list(text.long_pieces(tokens, seed))
    assert pieces
    assert all(piece in whole for piece in pieces)
    assert sum(len(piece) == length for piece in pieces) >= len(whole) // length
    assert all(len(piece) > length // 2 or piece == whole for piece in pieces)


def test_other_text_has_another_digest() -> None:
    assert Text("t", ("ab", "c")).sha256 != Text("t", ("a", "bc")).sha256
