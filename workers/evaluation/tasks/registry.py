"""Tasks by the name a person gives: one that is built in, a file, lm-eval's, or one that another package brings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from workers.errors import WrongUsage
from workers.evaluation.tasks.demo import ClozeTask, SqlTask, SupportTask
from workers.evaluation.tasks.jsonl import JsonlTask
from workers.evaluation.tasks.lm_eval import PREFIX, LmEvalTask
from workers.evaluation.tasks.task import AnyTask, SelfAsking, Task

GROUP = "tollgate.tasks"

BUILT_IN: Mapping[str, Callable[[], Task]] = {
    "demo-cloze": ClozeTask,  # for the base model: the next word of held-out documentation
    "demo-sql": SqlTask,  # for the adapter of that name
    "demo-support": SupportTask,
}


def load(names: Sequence[str]) -> tuple[AnyTask, ...]:
    """The tasks: `demo-cloze`, `my-task.jsonl`, `lm-eval:arc_easy`, or an entry point of the group tollgate.tasks.

    Raises WrongUsage for a name that nobody knows, a file that is no task, and a task named twice.
    """
    tasks = tuple(_load(name) for name in names)
    known = [task.name for task in tasks]
    if twice := next((name for name in known if known.count(name) > 1), None):
        raise WrongUsage(
            f"two tasks are called {twice}; name each once, and rename a file where two have the same name"
        )
    return tasks


def _load(name: str) -> AnyTask:
    if name.startswith(PREFIX):
        return LmEvalTask(name.removeprefix(PREFIX))
    if name.endswith(".jsonl"):
        return JsonlTask(Path(name))
    if made := BUILT_IN.get(name):
        return made()
    found = {point.name: point for point in entry_points(group=GROUP)}
    if point := found.get(name):
        return _from_entry_point(point)
    known = ", ".join(sorted({*BUILT_IN, *found}))
    raise WrongUsage(f"no task is called {name!r}; known are {known}, a file NAME.jsonl, and {PREFIX}TASK")


def _from_entry_point(point: EntryPoint) -> AnyTask:
    """The entry point names a task, or what makes one when it is called."""
    try:
        found: object = point.load()
        task: object = found() if callable(found) else found
    except Exception as error:
        raise WrongUsage(f"the task {point.name} of {point.value} cannot be loaded: {error!r}") from error
    if not isinstance(task, Task | SelfAsking):
        raise WrongUsage(
            f"{point.value} is no task: it needs name, examples(seed, count) and grade(example, text), "
            "see workers/evaluation/tasks/task.py"
        )
    return task
