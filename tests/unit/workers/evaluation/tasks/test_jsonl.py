from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.errors import WrongUsage
from workers.evaluation.tasks.jsonl import JsonlTask


def written(directory: Path, *lines: object) -> Path:
    path = directory / "mine.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def test_a_file_is_a_task(tmp_path: Path) -> None:
    task = JsonlTask(
        written(
            tmp_path,
            {"prompt": "2 + 2 =", "answer": "4", "match": "contains", "max_tokens": 8, "stop": ["\n"]},
            "",
            {"messages": [{"role": "user", "content": "Capital of France?\u2028"}], "answers": ["Paris", "Paris."]},
            {"prompt": "The sky is", "choices": [" blue", " iron"], "answer_index": 0},
            {"prompt": "As JSON:", "answer": {"city": "Oslo", "n": None}, "match": "json"},
            {"prompt": "A number:", "answer": r"^\d+$", "match": "regex"},
        )
    )

    assert task.name == "mine"
    add, capital, sky, city, number = task.examples(seed=0, count=100)
    assert (add.prompt, add.max_tokens, add.stop) == ("2 + 2 =", 8, ("\n",))
    assert capital.messages == ({"role": "user", "content": "Capital of France?\u2028"},)
    assert task.grade(add, " It is 4.")
    assert task.grade(capital, "Paris.")
    assert not task.grade(capital, "It is Paris.")
    assert task.grade(sky, " blue")
    assert not task.grade(sky, " iron")
    assert task.grade(city, '{"n": null, "city": "Oslo"}')
    assert task.grade(number, "17")
    assert not task.grade(number, "17a")


@pytest.fixture(scope="module")
def twenty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(
        tmp_path_factory.mktemp("task"), *({"prompt": f"{number}?", "answer": str(number)} for number in range(20))
    )


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(), count=st.integers(0, 30))
def test_a_sample_is_the_same_for_the_same_seed(twenty: Path, seed: int, count: int) -> None:
    once, again = JsonlTask(twenty).examples(seed, count), JsonlTask(twenty).examples(seed, count)
    assert once == again
    assert len({example.identity for example in once}) == min(count, 20)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "Invalid JSON"),
        ("[]", "object"),
        ({"answer": "x"}, "either a prompt or messages"),
        ({"prompt": "p", "messages": [{"role": "user", "content": "c"}], "answer": "x"}, "either a prompt or messages"),
        ({"prompt": "p"}, "write answer, answers, or choices"),
        ({"prompt": "p", "answer": ""}, "a text that is not empty"),
        ({"prompt": "p", "answer": 4}, "a text that is not empty"),
        ({"prompt": "p", "answer": "x", "match": "fuzzy"}, "match"),
        ({"prompt": "p", "answer": "(", "match": "regex"}, "is no regular expression"),
        ({"prompt": "p", "answer": "x", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "p", "answer": "x", "temperature": 1}, "temperature.*; known are prompt, messages, answer"),
        ({"messages": [{"role": "user", "content": "c"}], "choices": ["a", "b"], "answer_index": 0}, "not messages"),
        ({"prompt": "p", "choices": ["a", "b"], "answer_index": 2}, "none of the 2 choices"),
        ({"prompt": "p", "choices": ["a", "b"]}, "answer_index says which"),
        ({"prompt": "p", "choices": ["a", "b"], "answer_index": 0, "answer": "a"}, "answer_index says which"),
        ({"prompt": "p", "choices": ["a"], "answer_index": 0}, "at least two"),
        ({"prompt": "p", "choices": ["a", "a"], "answer_index": 0}, "at least two"),
    ],
)
def test_a_line_that_is_no_example_is_refused_with_its_number(tmp_path: Path, line: object, says: str) -> None:
    with pytest.raises(WrongUsage, match=rf"mine\.jsonl, line 2: .*{says}"):
        JsonlTask(written(tmp_path, {"prompt": "p", "answer": "x"}, line))


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match="cannot be read"):
        JsonlTask(tmp_path / "absent.jsonl")
    with pytest.raises(WrongUsage, match="has no examples"):
        JsonlTask(written(tmp_path))
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "\xe9"}')
    with pytest.raises(WrongUsage, match="not UTF-8"):
        JsonlTask(tmp_path / "latin.jsonl")
