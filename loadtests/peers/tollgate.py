"""The gateway of this checkout, with everything on: keys, routing, metrics, the SQLite ledger, JSON logs."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from loadtests.peers.base import MODEL, ROOT, Place, Start

KEY = "sk-bench"


class Tollgate:
    name = "tollgate"
    streams = 500

    def install(self) -> None:
        """It runs in the environment that runs this."""

    def start(self, place: Place) -> Start:
        config = place.directory / "config"
        write_config(config, place)
        command = [sys.executable, "-m", "gateway.cli", "serve", "--config", config]
        return Start(command, {"PYTHONPATH": str(ROOT)}, (("authorization", f"Bearer {KEY}"),))


def write_config(directory: Path, place: Place) -> None:
    """One worker, one model, one tenant. JSON is YAML."""
    directory.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    parts: dict[str, dict[str, object]] = {
        "gateway": {
            "server": {"host": "127.0.0.1", "port": place.port, "processes": 1},
            "ledger": f"sqlite:///{place.directory / 'ledger.db'}",
            "log": {"format": "json"},
        },
        "models": {"models": {MODEL: {"context": 32768, "versions": {"v1": {"quantization": "none"}}}}},
        "tenants": {"tenants": {"bench": {"keys": [{"id": "bench", "sha256": digest}]}}},
        "fleet": {
            "gpus": {"cpu": {"hourly_usd": 0.09}},
            "workers": [
                {"name": "standin", "url": place.worker_url, "engine": "vllm", "serves": f"{MODEL}@v1", "gpu": "cpu"}
            ],
        },
    }
    for name, document in parts.items():
        (directory / f"{name}.yaml").write_text(json.dumps(document, indent=2) + "\n")
