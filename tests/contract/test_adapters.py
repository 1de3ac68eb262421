"""A real engine whose one place for an adapter the gateway gives to whichever is asked for."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.contract.conftest import KEY, PATIENCE, ROOT, _wait_until_ready, digest
from tests.eventually import eventually
from tests.ports import reserved_port

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

ADMIN_KEY = "sk-test-adapters"
MODELS = ROOT / "var/models"
SQL_REQUEST: Any = [{"role": "user", "content": "Show the name and price of all products with a price below 20."}]


class Site:
    """One worker with room for one adapter; three that share it, one of them broken."""

    def __init__(self, directory: Path) -> None:
        self.config = directory / "config"
        self.config.mkdir()
        self.port, self.engine = reserved_port(), reserved_port()
        self.files = directory / "moving"
        shutil.copytree(MODELS / "scribe-sql", self.files)
        broken = directory / "broken"
        shutil.copytree(MODELS / "scribe-sql", broken)
        (broken / "adapter_model.safetensors").write_bytes(b"no tensors")
        launch = {
            "port": self.engine,
            "args": ["--max-num-seqs", "8"],
            "env": {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"},
        }
        adapters = {
            "moving": {"path": str(self.files)},
            "support": {"path": str(MODELS / "scribe-support")},
            "broken": {"path": str(broken)},
        }
        versions = {"fp8": {"artifact": str(MODELS / "scribe-fp8"), "quantization": "fp8"}}
        worker = {"name": "chat", "engine": "vllm", "serves": "scribe@fp8", "gpu": "cpu", "max_loras": 1}
        written = {
            "ledger": f"sqlite:///{directory / 'ledger.db'}",
            "gpus": {"cpu": {"hourly_usd": 0.09}},
            "admin": {"keys": [{"id": "k", "sha256": digest(ADMIN_KEY)}]},
            "models": {"scribe": {"context": 1024, "versions": versions, "adapters": adapters}},
            "workers": [{**worker, "launch": launch}],
            "tenants": {"contract": {"keys": [{"id": "k", "sha256": digest(KEY)}]}},
        }
        (self.config / "all.yaml").write_text(json.dumps(written))

    def on_the_engine(self) -> list[str]:
        """The adapters that it lists itself."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.engine}/v1/models", timeout=10) as answer:
            return [card["id"] for card in json.load(answer)["data"] if card["parent"]]

    def placement(self) -> dict[str, Any]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/admin/v1/workers")
        request.add_header("authorization", f"Bearer {ADMIN_KEY}")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)["workers"][0]["adapter_placement"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("adapters"))
    with (site.config.parent / "gateway.log").open("wb") as log:
        up = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", "up", "--config", str(site.config), "--port", str(site.port)],
            cwd=ROOT,
            stdout=log,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        _wait_until_ready(f"http://127.0.0.1:{site.port}", up)
        yield site
    finally:
        up.send_signal(signal.SIGTERM)
        try:
            up.wait(90)
        except subprocess.TimeoutExpired:
            up.kill()
            up.wait()
            raise


@pytest.mark.timeout(600)
def test_the_gateway_places_adapters_on_a_real_engine(site: Site) -> None:
    with OpenAI(base_url=f"http://127.0.0.1:{site.port}/v1", api_key=KEY, max_retries=0, timeout=PATIENCE) as client:

        def ask(adapter: str) -> str:
            answer = client.chat.completions.create(
                model=f"scribe:{adapter}", messages=SQL_REQUEST, max_tokens=32, temperature=0, seed=1
            )
            assert answer.model == f"scribe:{adapter}"
            return answer.choices[0].message.content or ""

        assert ask("moving").startswith("SELECT")
        (first,) = site.on_the_engine()
        assert first.startswith("scribe:moving@")

        supported = ask("support")  # the other makes room
        assert not supported.startswith("SELECT")
        (second,) = site.on_the_engine()
        assert second.startswith("scribe:support@")

        with pytest.raises(openai.APIStatusError, match="could not be loaded") as no:
            ask("broken")
        assert (no.value.status_code, no.value.code) == (503, "adapter_not_loaded")
        print(no.value.message)
        assert "broken" in site.placement()["failed"]

        assert ask("moving").startswith("SELECT")  # the same files are the same version
        assert site.on_the_engine() == [first]
        for path in (MODELS / "scribe-support").iterdir():
            if path.is_file():
                shutil.copy(path, site.files / path.name)
        eventually(lambda: first not in site.on_the_engine() or None, "the version that is no more is unloaded", 30.0)
        assert ask("moving") == supported  # and its answer comes from no cache of the old one
        (third,) = site.on_the_engine()
        assert third.startswith("scribe:moving@")
        assert third != first
