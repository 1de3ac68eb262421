"""From the fleet to a launch, or to what is missing for it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.table import Adapter, Launch, Model, Requires, Settings, Table, Version, Worker
from gateway.table import Gpu as table_gpu
from tests.unit.workers.engines.jobs import model, options, worker
from workers.engines.prepare import prepare
from workers.engines.proof import Proof
from workers.engines.spec import LaunchSpec
from workers.errors import WorkerToolError
from workers.registry.digest import digest_of_artifact
from workers.registry.hardware import Gpu, Machine


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


def registered(base: Path, digest: str | None = None, **requires: Any) -> Model:
    where = "registry/chat/int4"
    found = digest_of_artifact(base / where) if digest is None else digest
    return model(versions={"int4": Version("int4", where, "w4a16", None, found, Requires(**requires))})


def test_a_registered_artifact_is_started(base: Path) -> None:
    assert launch(base, worker(), registered(base, memory_bytes=1)).command[4] == f"{base}/registry/chat/int4"


def test_another_artifact_than_the_registered_one_is_not(base: Path) -> None:
    made = registered(base)
    assert launch(base, worker(), made)
    (base / "registry/chat/int4/config.json").write_text("[]")
    with pytest.raises(WorkerToolError, match=r"versions: int4: .* is not what was registered.*verify chat@int4"):
        launch(base, worker(), made)


def test_an_artifact_that_cannot_be_read_whole_is_not_started(base: Path) -> None:
    made = registered(base)
    (base / "registry/chat/int4/odd").symlink_to("nothing")
    with pytest.raises(WorkerToolError, match="neither a file nor a directory"):
        launch(base, worker(), made)


def test_what_the_engine_fetches_itself_cannot_have_a_digest(base: Path) -> None:
    online = worker(launch=Launch(8102, (), {"HF_HUB_OFFLINE": "0"}))
    where = Version("int4", "some-org/Llama-3.1-8B", "none", None, f"sha256:{'0' * 64}")
    with pytest.raises(WorkerToolError, match="cannot be checked of what the engine fetches itself"):
        launch(base, online, model(versions={"int4": where}))


def test_a_machine_that_a_version_does_not_fit_does_not_start_it(base: Path) -> None:
    with pytest.raises(WorkerToolError, match=r"`requires` asks for the processor features magic.*worker chat-0"):
        launch(base, worker(), registered(base, cpu_flags=("magic",)))


def test_only_what_a_workers_kind_needs_is_asked_for(base: Path) -> None:
    machine = Machine(frozenset(), 0, (Gpu("0", "GPU-1", "H200", (9, 0), (580,), 10**11),))
    needs = registered(base, compute_capability=(8, 9), cpu_flags=("magic",), memory_bytes=10**9)
    empty: dict[str, Any] = {"gpus": {}, "workers": {}, "aliases": {}, "routes": (), "tenants": {}, "keys": {}}
    table = Table("r", base, Settings(), models={"chat": needs}, **empty)
    on_gpu = worker(gpu=table_gpu("h200", 1, None))
    prepare(table, on_gpu, base, base, {"TOLLGATE_ENGINE_PYTHON": sys.executable}, Proof(base, lambda: machine))
    with pytest.raises(WorkerToolError, match="magic"):
        prepare(table, worker(), base, base, {"TOLLGATE_ENGINE_PYTHON": sys.executable}, Proof(base, lambda: machine))


def test_an_adapter_that_was_changed_is_not_loaded(base: Path) -> None:
    digest = digest_of_artifact(base / "adapters/support")
    adapters = {"support": Adapter("support", "adapters/support", None, digest=digest)}
    assert launch(base, worker(max_loras=1), model(adapters=adapters))
    (base / "adapters/support/adapter_model.safetensors").touch()
    with pytest.raises(WorkerToolError, match=r"adapters: support: .* is not what was registered.*verify chat:support"):
        launch(base, worker(max_loras=1), model(adapters=adapters))
