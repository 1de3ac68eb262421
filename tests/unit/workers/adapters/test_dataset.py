from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.adapters.dataset import (
    MOST_LINE_BYTES,
    BadExample,
    Chat,
    Completion,
    Message,
    Text,
    held_out,
    parse,
    read,
    unseen,
)
from workers.errors import WrongUsage

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
filled = words.filter(bool)
examples = st.one_of(
    filled.map(Text),
    st.builds(Completion, words, filled),
    st.lists(st.tuples(words, filled), min_size=1, max_size=3).map(
        lambda turns: Chat(
            tuple(m for ask, say in turns for m in (Message("user", ask), Message("assistant", say, True)))
        )
    ),
)


def written(example: Chat | Completion | Text) -> dict[str, Any]:
    match example:
        case Text(text):
            return {"text": text}
        case Completion(prompt, completion):
            return {"prompt": prompt, "completion": completion}
        case Chat(messages):
            return {"messages": [{"role": one.role, "content": one.content} for one in messages]}


@given(examples, st.booleans())
def test_what_is_written_is_read_back(example: Chat | Completion | Text, ascii_only: bool) -> None:
    assert parse(json.dumps(written(example), ensure_ascii=ascii_only).encode()) == example


@given(
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words,
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["messages", "prompt", "completion", "text", "role", "content", "weight"]), inner
                )
            ),
            max_leaves=8,
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_any_line_is_an_example_or_refused(line: bytes) -> None:
    with suppress(BadExample):  # any other error fails
        parse(line)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "not a JSON object"),
        ("{}", "none of them"),
        ('{"text": "a", "prompt": "b"}', "not `prompt` and `text`"),
        ('{"text": ""}', "`text` is empty"),
        ('{"text": 1}', "`text` must be a string"),
        ('{"text": "\\ud800"}', "half a character"),
        ('{"prompt": "a"}', "`completion` must be a string; it is missing"),
        ('{"prompt": "a", "completion": ""}', "`completion` is empty"),
        ('{"messages": []}', "must be a list"),
        ('{"messages": [1]}', "each message must be an object"),
        ('{"messages": [{"role": "robot", "content": ""}]}', "not 'robot'"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "none of its `messages` is an assistant's"),
        ('{"messages": [{"role": "assistant", "content": "a", "weight": 0}]}', "none of its `messages`"),
        ('{"messages": [{"role": "assistant", "content": "a", "weight": 2}]}', "must be 0 or 1, not 2"),
        ('{"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]}', "`tool_calls` can not be learnt"),
        ('{"messages": [{"role": "assistant", "content": null}]}', "`content` must be a string"),
        (" " * (MOST_LINE_BYTES + 1), "longer than"),
    ],
)
def test_a_line_that_is_no_example_is_refused_with_the_reason(line: str, message: str) -> None:
    with pytest.raises(BadExample, match=message):
        parse(line.encode())


def test_an_answer_of_weight_0_is_read_and_not_learnt() -> None:
    line = {"messages": [{"role": "assistant", "content": "a", "weight": 0}, {"role": "assistant", "content": "b"}]}

    assert parse(json.dumps(line).encode()) == Chat((Message("assistant", "a"), Message("assistant", "b", True)))


def test_a_file_is_read_in_order_and_hashed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a", "source": 7}\n\n{"text": "b"}')

    found = read(path)

    assert found.examples == (Text("a"), Text("b"))
    assert (found.name, found.sha256) == ("a.jsonl", hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "a"}\n{"text": 1}\n', "line 2: `text` must be a string"),
        (b"\xff\n", "line 1: not UTF-8"),
        (b"\n \n", "has no examples"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.jsonl"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(WrongUsage, match=message):
        read(path)


@given(st.lists(st.integers(0, 30).map(lambda number: Text(str(number))), min_size=1, max_size=60), st.integers(0, 5))
def test_what_is_held_out_is_never_trained_on(found: list[Text], seed: int) -> None:
    if len(set(found)) < 2:
        with pytest.raises(WrongUsage, match="more, or --eval"):
            held_out(found, seed)
        return

    training, aside = held_out(found, seed)

    assert training
    assert aside
    assert not set(training) & set(aside)
    assert set(training) | set(aside) == set(found)
    assert len(aside) == len(set(aside))
    assert (training, aside) == held_out(found, seed)


def test_what_was_trained_on_is_not_asked() -> None:
    assert unseen([Text("a"), Text("b"), Text("b"), Text("c")], [Text("c")]) == (Text("a"), Text("b"))
