"""From the fleet to a launch, or to what is missing for it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.table import Adapter, Launch, Model, Settings, Table, Version, Worker
from tests.unit.workers.engines.jobs import model, options, worker
from workers.engines.prepare import prepare
from workers.engines.spec import LaunchSpec
from workers.errors import WorkerToolError


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A working directory with the checkpoint and one adapter."""
    for name, content in (
        ("registry/chat/int4/config.json", {}),
        ("adapters/support/adapter_config.json", {"r": 16, "target_modules": ["q_proj"]}),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
    return tmp_path


def launch(base: Path, worker: Worker, model: Model, **environ: str) -> LaunchSpec:
    empty: dict[str, Any] = {"gpus": {}, "aliases": {}, "routes": (), "tenants": {}, "keys": {}}
    table = Table("r", base, Settings(), workers={worker.name: worker}, models={model.name: model}, **empty)
    return prepare(table, worker, base, base / "run", {"TOLLGATE_ENGINE_PYTHON": sys.executable} | environ)


def support(path: str = "adapters/support") -> dict[str, Adapter]:
    return {"support": Adapter("support", path, None)}


def test_paths_are_below_the_working_directory(base: Path) -> None:
    given = options(launch(base, worker(max_loras=2), model(adapters=support())).command)
    assert given["--model"] == [f"{base}/registry/chat/int4"]
    assert given["--max-lora-rank"] == ["16"]


def test_absolute_paths_stay(base: Path) -> None:
    where = Version("int4", f"{base}/registry/chat/int4", "w4a16", None)
    assert launch(base / "elsewhere", worker(), model(versions={"int4": where})).command[4] == where.artifact


def test_a_worker_without_room_for_adapters_loads_none(base: Path) -> None:
    made = launch(base, worker(max_loras=0), model(adapters=support("nowhere")))
    assert "--enable-lora" not in made.command


def test_the_engines_python_is_the_one_of_the_checkout(base: Path) -> None:
    python = base / ".venvs/engine/bin/python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    assert launch(base, worker(), model(), TOLLGATE_ENGINE_PYTHON="").command[0] == str(python)


def test_a_missing_environment_names_what_makes_it(base: Path) -> None:
    with pytest.raises(WorkerToolError, match="make engine-env"):
        launch(base, worker(), model(), TOLLGATE_ENGINE_PYTHON="")


@pytest.mark.parametrize(
    ("quantization", "command"),
    [("none", "tollgate-worker demo-models"), ("w4a16", "tollgate-worker quantize BASE --out registry/chat/missing")],
)
def test_a_missing_checkpoint_names_what_makes_it(base: Path, quantization: str, command: str) -> None:
    missing = Version("int4", "registry/chat/missing", quantization, None)
    with pytest.raises(WorkerToolError, match=f"registry/chat/missing holds no checkpoint.*`{command}`"):
        launch(base, worker(), model(versions={"int4": missing}))


def test_an_engine_that_may_go_online_gets_the_name_as_it_is(base: Path) -> None:
    online = worker(launch=Launch(8102, (), {"HF_HUB_OFFLINE": "0"}))
    where = Version("int4", "some-org/Llama-3.1-8B", "none", None)
    assert launch(base, online, model(versions={"int4": where})).command[4] == "some-org/Llama-3.1-8B"


def test_a_version_without_a_checkpoint(base: Path) -> None:
    with pytest.raises(WorkerToolError, match="write the checkpoint's `artifact`"):
        launch(base, worker(), model(versions={"int4": Version("int4", None, "none", None)}))


def test_a_missing_adapter_names_what_makes_it(base: Path) -> None:
    with pytest.raises(WorkerToolError, match=r"adapters: support: .*adapter_config.json does not exist.*demo-models"):
        launch(base, worker(max_loras=1), model(adapters=support("adapters/nowhere")))


@pytest.mark.parametrize("content", ["not json", "[]", "{}", '{"r": 0}', '{"r": "8"}', '{"r": true}'])
def test_an_adapter_configuration_that_is_none(base: Path, content: str) -> None:
    (base / "adapters/support/adapter_config.json").write_text(content)
    with pytest.raises(WorkerToolError, match=r"adapter_config\.json"):
        launch(base, worker(max_loras=1), model(adapters=support()))


def test_an_engine_that_is_not_started_here(base: Path) -> None:
    with pytest.raises(WorkerToolError, match="sglang can not be started here, only vllm and trtllm"):
        launch(base, worker(engine="sglang"), model())
