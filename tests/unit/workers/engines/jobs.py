"""Jobs and tables to launch from, with the parts that a test is about replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.table import Gpu, Launch, Model, Version, Worker
from workers.engines.spec import Job, LoadedAdapter

WORKER: dict[str, Any] = {
    "name": "chat-0",
    "url": "http://127.0.0.1:8102",
    "engine": "vllm",
    "model": "chat",
    "version": "int4",
    "gpu": Gpu("cpu", 90_000_000, None),
    "gpus": 1,
    "max_loras": 0,
    "price": None,
    "api_key": None,
    "launch": Launch(8102),
    "serves_as": None,
}
VERSION = Version("int4", "registry/chat/int4", "w4a16", None)


def worker(**changes: Any) -> Worker:
    return Worker(**WORKER | changes)


def model(**changes: Any) -> Model:
    plain: dict[str, Any] = {
        "name": "chat",
        "context": 2048,
        "task": "generate",
        "versions": {"int4": VERSION},
        "traffic": (),
        "adapters": {},
    }
    return Model(**plain | changes)


def job(task: str = "generate", adapters: tuple[LoadedAdapter, ...] = (), **changes: Any) -> Job:
    return Job(
        worker=worker(**changes),
        model=model(task=task),
        version=VERSION,
        artifact="/srv/registry/chat/int4",
        adapters=adapters,
        run_dir=Path("var/log/workers"),
    )


def options(command: tuple[str, ...]) -> dict[str, list[str]]:
    """What follows each `--option` of a command line."""
    found: dict[str, list[str]] = {}
    for word in command:
        if word.startswith("--"):
            found[word] = []
        elif found:
            found[list(found)[-1]].append(word)
    return found
