"""The supervisor around real vLLM, whose processes rename themselves, start others and share memory between them."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.launching import ROOT, Launcher
from tests.eventually import eventually
from tests.ports import reserved_port
from workers.supervisor.guard import descendants

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

MODELS = ROOT / "var/models"
ENGINE_PYTHON = os.environ.get("TOLLGATE_ENGINE_PYTHON", str(ROOT / ".venvs/engine/bin/python"))
START_WITHIN = 240.0  # on two cores, beside the rest of the suite
FEW_THREADS = {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}


class RealSite:
    """A quantized chat worker with both adapters, and an embedding worker."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ports = {"chat": reserved_port(), "embed": reserved_port()}
        self.config = root / "router_config"
        self.config.mkdir()
        (self.config / "all.yaml").write_text(json.dumps(self._written()))

    def ask(self, worker: str, path: str, **body: object) -> dict[str, object]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports[worker]}{path}",
            json.dumps(body).encode() if body else None,
            {"content-type": "application/json"},
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=START_WITHIN) as answer:
            return json.load(answer)

    def load_adapter(self, worker: str, name: str, path: Path) -> None:
        """As a gateway does, which the launcher has let it."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports[worker]}/v1/load_lora_adapter",
            json.dumps({"lora_name": name, "lora_path": str(path)}).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=START_WITHIN) as answer:
            assert answer.status == 200

    def _written(self) -> dict[str, object]:
        def worker(name: str, serves: str, **more: object) -> dict[str, object]:
            launch = {"port": self.ports[name], "args": ["--max-num-seqs", "8"], "env": FEW_THREADS}
            return {"name": name, "engine": "vllm", "serves": serves, "gpu": "cpu", "launch": launch, **more}

        def version(directory: str, quantization: str) -> dict[str, str]:
            return {"artifact": str(MODELS / directory), "quantization": quantization}

        adapters = {name: {"path": str(MODELS / f"scribe-{name}")} for name in ("sql", "support")}
        return {
            "gpus": {"cpu": {"hourly_usd": 0.09}},
            "models": {
                "scribe": {"context": 1024, "versions": {"fp8": version("scribe-fp8", "fp8")}, "adapters": adapters},
                "vectors": {"context": 1024, "task": "embed", "versions": {"bf16": version("scribe-mini", "none")}},
            },
            "workers": [worker("chat", "scribe@fp8", max_loras=2), worker("embed", "vectors@bf16")],
            "tenants": {"somebody": {}},
        }


@pytest.fixture
def site(tmp_path: Path) -> RealSite:
    return RealSite(tmp_path)


@pytest.fixture
def launcher(site: RealSite) -> Iterator[Launcher]:
    arguments = ["--all", "--config", str(site.config), "--start-within", str(START_WITHIN)]
    launcher = Launcher(site.root, arguments, ENGINE_PYTHON)
    yield launcher
    launcher.close()


def test_real_workers_start_answer_and_leave_nothing(site: RealSite, launcher: Launcher) -> None:
    launcher.until("ready", "chat", within=2 * START_WITHIN)
    launcher.until("ready", "embed", within=2 * START_WITHIN)

    served = site.ask("chat", "/v1/models")["data"]
    assert isinstance(served, list)
    assert {model["id"] for model in served} == {"scribe@fp8"}
    site.load_adapter("chat", "scribe:sql", MODELS / "scribe-sql")
    prompt = {"prompt": "Show the name of all products.", "max_tokens": 24, "temperature": 0}
    answers = {
        name: site.ask("chat", "/v1/completions", model=name, **prompt)["choices"]
        for name in ("scribe@fp8", "scribe:sql")
    }
    assert answers["scribe@fp8"] != answers["scribe:sql"]
    vectors = site.ask("embed", "/v1/embeddings", model="vectors@bf16", input=["a", "b"])["data"]
    assert isinstance(vectors, list)
    assert len(vectors) == 2

    family = descendants(launcher.process.pid)
    assert len(family) >= 2 * 3  # of each: the guard, the API server and the engine core at least
    memory = shared_memory(family)  # none while each engine is one process
    launcher.send(signal.SIGKILL)
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family), "every process is gone")
    assert not [path for path in memory if path.exists()]


def shared_memory(pids: set[int]) -> set[Path]:
    """The named segments that any of the processes has mapped."""
    rows = (row for pid in pids for row in Path(f"/proc/{pid}/maps").read_text().splitlines())
    return {Path(row.split()[-1]) for row in rows if "/dev/shm/psm_" in row}
