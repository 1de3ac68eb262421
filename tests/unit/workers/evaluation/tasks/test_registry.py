from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from workers.errors import WrongUsage
from workers.evaluation.tasks import registry
from workers.evaluation.tasks.task import Example


class Theirs:
    """A task that another package brings."""

    name = "theirs"

    def examples(self, seed: int, count: int) -> Sequence[Example]:
        return [Example(("b",), prompt="a")]

    def grade(self, example: Example, text: str) -> bool:
        return text in example.answers


INSTANCE = Theirs()
NO_TASK = "a text"


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        EntryPoint(name, f"{__name__}:{what}", registry.GROUP)
        for name, what in (("theirs", "Theirs"), ("made", "INSTANCE"), ("broken", "Absent"), ("none", "NO_TASK"))
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: found if group == "tollgate.tasks" else [])


def test_tasks_by_name_file_and_package(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"prompt": "a", "answer": "b"}\n')

    tasks = registry.load(["demo-cloze", "theirs", str(tmp_path / "mine.jsonl")])

    assert [task.name for task in tasks] == ["demo-cloze", "theirs", "mine"]
    assert registry.load(["made"]) == (INSTANCE,)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "arc",
            r"no task is called 'arc'; known are broken, demo-cloze, demo-sql, demo-support, made, none, theirs, a",
        ),
        ("broken", "cannot be loaded"),
        ("none", "is no task: it needs name"),
        ("absent.jsonl", "cannot be read"),
    ],
)
def test_what_is_no_task_is_refused(name: str, says: str) -> None:
    with pytest.raises(WrongUsage, match=says):
        registry.load([name])


def test_a_task_is_named_once() -> None:
    with pytest.raises(WrongUsage, match="two tasks are called theirs"):
        registry.load(["theirs", "demo-sql", "theirs"])
