"""What it takes to start one engine process, and what an engine's launch file has to know to say so."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.table import Adapter, Model, Version, Worker
from workers.errors import WorkerToolError


class CannotLaunch(WorkerToolError):
    """A worker can not be started as configured; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Inference:
    """The smallest request that proves a worker serves its model."""

    path: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """One engine process. `env` goes on top of the supervisor's own, `files` are written before the start. `recheck`
    raises CannotLaunch where what was looked at for the first start does not hold any more."""

    name: str
    port: int
    command: tuple[str, ...]
    env: Mapping[str, str]
    health_path: str
    inference: Inference
    files: Mapping[Path, str] = field(default_factory=dict[Path, str])
    recheck: Callable[[], object] | None = field(default=None, compare=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class Job:
    """A worker with everything its launch needs looked up: absolute paths, LoRA adapters with their rank."""

    worker: Worker
    model: Model
    version: Version
    artifact: str
    adapters: tuple[LoadedAdapter, ...]
    run_dir: Path  # where an engine's own files may be written

    @property
    def port(self) -> int:
        if self.worker.launch is None:
            raise CannotLaunch(f"worker {self.worker.name}: give it `launch: {{port: 8101}}` to have it started here")
        return self.worker.launch.port

    @property
    def served_name(self) -> str:
        """The name the engine knows the base model by, which is what the gateway asks it for."""
        return self.worker.serves_as or f"{self.worker.model}@{self.worker.version}"

    @property
    def runs_on_cpu(self) -> bool:
        gpu = self.worker.gpu
        return gpu is None or gpu.name.startswith("cpu")

    @property
    def inference(self) -> Inference:
        if self.model.task == "embed":
            return Inference("/v1/embeddings", {"model": self.served_name, "input": "Hello"})
        return Inference(
            "/v1/completions", {"model": self.served_name, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
        )


@dataclass(frozen=True, slots=True)
class LoadedAdapter:
    """A LoRA adapter on disk. `name` is what requests call it: `model:adapter`."""

    name: str
    path: Path
    rank: int


def read_adapter(model: Model, adapter: Adapter, path: Path) -> LoadedAdapter:
    """The adapter with the rank that its `adapter_config.json` states."""
    written = path / "adapter_config.json"
    where = f"models.yaml: {model.name}: adapters: {adapter.name}"
    try:
        rank = json.loads(written.read_text())["r"]
    except FileNotFoundError:
        raise CannotLaunch(
            f"{where}: {written} does not exist; `tollgate-worker demo-models` makes the demo's adapters,"
            " any PEFT LoRA directory will do"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CannotLaunch(f"{where}: {written} is not a PEFT adapter configuration: {error!r}") from error
    if type(rank) is not int or rank < 1:
        raise CannotLaunch(f"{where}: {written}: `r` must be a whole number above 0, not {rank!r}")
    return LoadedAdapter(f"{model.name}:{adapter.name}", path, rank)
