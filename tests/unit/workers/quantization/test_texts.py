from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow  # pyright: ignore[reportMissingTypeStubs]
import pyarrow.parquet as parquet  # pyright: ignore[reportMissingTypeStubs]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.quantization.texts import (
    PIECE,
    BadCalibration,
    Record,
    chosen,
    digest_of_files,
    files_of,
    read_records,
    record_of,
)

MESSAGES = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
ROWS = [{"text": "one"}, {"text": "two"}]


def records(path: Path) -> list[Record]:
    return list(read_records(files_of(path)))


def jsonl(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_each_line_is_a_text_or_a_conversation(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "a.jsonl",
        {"text": "plain"},
        {"messages": MESSAGES, "id": 7},
        {"prompt": "2 + 2 =", "completion": " 4"},
        {"prompt": MESSAGES[:1], "completion": MESSAGES[1:]},
    )

    assert records(path) == ["plain", MESSAGES, "2 + 2 = 4", MESSAGES]


def test_blank_lines_and_blank_texts_are_nothing(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"text": " \n"}, {"messages": []}, {"text": "x"})
    path.write_text("\n\n" + path.read_text())

    assert records(path) == ["x"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "cut', r"a\.jsonl:2: not JSON"),
        (b'{"text": "\xff"}', r"a\.jsonl:2: not UTF-8"),
        (b"[1]", r"a\.jsonl:2: a line must be an object"),
        (b'{"instruction": "x"}', r"a\.jsonl:2: no `text`.*'instruction'"),
        (b"{}", r"a\.jsonl:2: .*an empty object"),
        (b'{"text": 3}', r"a\.jsonl:2: no `text`"),
        (b'{"messages": [{"role": "user"}]}', r"a\.jsonl:2: a message needs"),
        (b'{"messages": ["hello"]}', r"a\.jsonl:2: a message needs"),
    ],
)
def test_a_line_that_is_no_record_is_refused_with_its_place(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "fine"}\n' + line + b"\n")

    with pytest.raises(BadCalibration, match=message):
        records(path)


def test_text_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("é" * (2 * PIECE + 1))

    assert [len(record) for record in records(path)] == [PIECE, PIECE, 1]


def test_text_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("naïve".encode("latin-1"))

    with pytest.raises(BadCalibration, match=r"is not UTF-8.*byte 2"):
        records(path)


def test_tables_are_read_like_lines(tmp_path: Path) -> None:
    table = pyarrow.Table.from_pylist(ROWS)
    parquet.write_table(table, tmp_path / "a.parquet")
    saved = tmp_path / "saved"
    saved.mkdir()
    (saved / "state.json").write_text("{}")
    with (
        pyarrow.OSFile(str(saved / "data-00000-of-00001.arrow"), "wb") as file,
        pyarrow.ipc.new_stream(file, table.schema) as writer,
    ):
        writer.write_table(table)

    assert records(tmp_path / "a.parquet") == ["one", "two"]
    assert records(saved) == ["one", "two"]
    assert records(tmp_path) == ["one", "two", "one", "two"]


def test_a_broken_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and nothing else")

    with pytest.raises(BadCalibration, match=r"a\.parquet can not be read"):
        records(tmp_path)


def test_a_directory_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "z.md").write_text("first")
    (tmp_path / "notes.docx").write_text("not read")
    (tmp_path / ".hidden.txt").write_text("not read")

    assert records(tmp_path) == ["first", "second"]


@pytest.mark.parametrize(
    ("name", "message"), [("nothing", "no such"), ("a.csv", "can not read .csv"), ("empty", "nothing")]
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "a.csv").write_text("text")
    (tmp_path / "empty").mkdir()

    with pytest.raises(BadCalibration, match=message):
        files_of(tmp_path / name)


def test_the_digest_is_that_of_the_contents_in_order(tmp_path: Path) -> None:
    one, other, moved = tmp_path / "a.txt", tmp_path / "b.txt", tmp_path / "c.txt"
    one.write_text("one")
    other.write_text("other")
    moved.write_text("one")

    assert digest_of_files([one, other]) == digest_of_files([moved, other])
    assert digest_of_files([one, other]) != digest_of_files([other, one])


@given(st.lists(st.text(min_size=1), max_size=50), st.integers(), st.integers(1, 10))
def test_what_is_chosen_is_some_of_all_and_decided_by_the_seed(texts: list[str], seed: int, kept: int) -> None:
    found = chosen(iter(texts), seed, kept)

    assert found == chosen(iter(texts), seed, kept)
    assert len(found) == min(kept, len(texts))
    remaining = list(texts)
    for text in found:
        assert isinstance(text, str)
        remaining.remove(text)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["text", "messages", "prompt", "completion", "x"]), _JSON))
def test_any_row_is_records_or_refused_with_its_place(row: dict[str, object]) -> None:
    said = "a.jsonl:1"
    found: list[Record] = []
    try:
        found = list(record_of(row, "a.jsonl:1"))
    except BadCalibration as refused:
        said = str(refused)

    assert "a.jsonl:1" in said
    assert all(isinstance(record, str | list) for record in found)


def test_each_record_is_as_likely_as_any_other() -> None:
    """The same seeds every time: 3000 choices of 3 in 10, 900 of each expected, with a deviation of 25."""
    counts = Counter(str(record) for seed in range(3000) for record in chosen(iter("abcdefghij"), seed, kept=3))

    assert all(abs(counts[record] - 900) < 125 for record in "abcdefghij"), counts
