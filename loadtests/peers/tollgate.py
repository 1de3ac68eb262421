"""The gateway of this checkout, with everything on: keys, limits, routes, metrics, the SQLite ledger, JSON logs."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import sys
from pathlib import Path

from loadtests.peers.base import MODEL, ROOT, Place, Start, Unavailable, free_port, pinned

KEY = "sk-bench"
_PLENTY = 1_000_000_000  # limits that are checked and charged for every request, and refuse none


class Tollgate:
    streams = 500

    def __init__(self, processes: int = 1, *, limits: bool = True, ledger: bool = True) -> None:
        self.processes = processes
        self._limits = limits
        self._ledger = ledger
        self.name = "tollgate" if processes == 1 else f"tollgate-{processes}"
        if not limits:
            self.name += "-unlimited"
        if not ledger:
            self.name += "-unledgered"

    def install(self) -> None:
        """It runs in the environment that runs this."""

    def start(self, place: Place) -> Start:
        config = place.directory / "config"
        write_config(config, place, self.processes, limits=self._limits, ledger=self._ledger)
        command = [sys.executable, "-m", "gateway.cli", "serve", "--config", config]
        return Start(command, _path(), (("authorization", f"Bearer {KEY}"),))


class TollgateRedis:
    """One gateway whose limits and budget are shared through a Redis of its own, on the same core."""

    name = "tollgate-redis"
    streams = 500
    processes = 1

    def install(self) -> None:
        if shutil.which("redis-server") is None:
            raise Unavailable("redis-server is not installed: `apt-get install redis-server` brings it")

    def start(self, place: Place) -> Start:
        port = free_port()
        config = place.directory / "config"
        write_config(config, place, state=f"redis://127.0.0.1:{port}/0")
        redis = f"redis-server --port {port} --bind 127.0.0.1 --save '' --appendonly no"
        gateway = shlex.join([sys.executable, "-m", "gateway.cli", "serve", "--config", str(config)])
        both = f"trap 'trap \"\" TERM; kill 0; wait' TERM; {redis} & {gateway} & wait"
        return Start(["sh", "-c", both], _path(), (("authorization", f"Bearer {KEY}"),))


class TollgateSettlerApart:
    """The gateway alone on its core: what brings its journal into the ledger is a service of its own, elsewhere. The
    processor time of both is counted."""

    name = "tollgate-settler-apart"
    streams = 0
    processes = 1

    def install(self) -> None:
        """It runs in the environment that runs this."""

    def start(self, place: Place) -> Start:
        config = place.directory / "config"
        write_config(config, place, settler="external")
        gateway, settler = (
            shlex.join([sys.executable, "-m", "gateway.cli", command, "--config", str(config)])
            for command in ("serve", "settle")
        )
        elsewhere = shlex.join(pinned(place.other_cores))
        both = f"trap 'trap \"\" TERM; kill 0; wait' TERM; {gateway} & {elsewhere} nice -n 5 {settler} & wait"
        return Start(["sh", "-c", both], _path(), (("authorization", f"Bearer {KEY}"),))


class TollgatePair:
    """Two gateways of one process each, which know nothing of each other: what two processes cost when they share
    nothing but their cores. On a core of their own they evict each other's caches, and each serves fewer requests in
    one turn of its loop, so that a request costs more than in one process alone."""

    name = "tollgate-pair"
    streams = 500
    processes = 2

    def install(self) -> None:
        """It runs in the environment that runs this."""

    def start(self, place: Place) -> Start:
        ports = (place.port, free_port())
        commands: list[str] = []
        for number, port in enumerate(ports):
            own = Place(place.worker_url, port, place.directory / str(number))
            commands.append(shlex.join(map(str, Tollgate().start(own).command)))
        both = f"trap 'trap \"\" TERM; kill 0; wait' TERM; {commands[0]} & {commands[1]} & wait"
        headers = (("authorization", f"Bearer {KEY}"),)
        return Start(["sh", "-c", both], _path(), headers, more_ports=ports[1:])


def _path() -> dict[str, str]:
    """The gateway that is on the path of this process, compiled or not; else that of this checkout."""
    return {"PYTHONPATH": os.environ.get("PYTHONPATH") or str(ROOT)}


def write_config(
    directory: Path,
    place: Place,
    processes: int = 1,
    *,
    limits: bool = True,
    ledger: bool = True,
    state: str = "memory://",
    settler: str = "embedded",
) -> None:
    """One worker, one model, one route, one tenant. JSON is YAML."""
    directory.mkdir(parents=True, exist_ok=True)
    tenant: dict[str, object] = {
        "keys": [{"id": "bench", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}],
        "models": [MODEL],
    }
    if limits:
        tenant["limits"] = {"rpm": _PLENTY, "tpm": _PLENTY, "concurrency": 1_000_000}
        tenant["budget"] = {"usd": 1_000_000, "per": "month", "on_exceed": "reject"}
    route = {
        "name": "bench",
        "match": {"model": MODEL, "tenant": "bench"},
        "candidates": [f"{MODEL}@v1"],
        "minimize": "latency",
        "retry": {"attempts": 2, "budget": "10%"},
    }
    parts: dict[str, dict[str, object]] = {
        "gateway": {
            "server": {"host": "127.0.0.1", "port": place.port, "processes": processes},
            "state": state,
            "ledger": f"sqlite:///{place.directory / 'ledger.db'}" if ledger else "none",
            "metering": {"settler": settler},
            "decisions": {"directory": str(place.directory / "decisions")},  # by itself they go with the ledger
            "log": {"format": "json"},
        },
        "models": {"models": {MODEL: {"context": 32768, "versions": {"v1": {"quantization": "none"}}}}},
        "routes": {"routes": [route]},
        "tenants": {"tenants": {"bench": tenant}},
        "fleet": {
            "gpus": {"cpu": {"hourly_usd": 0.09}},
            "workers": [
                {"name": "standin", "url": place.worker_url, "engine": "vllm", "serves": f"{MODEL}@v1", "gpu": "cpu"}
            ],
        },
    }
    for name, document in parts.items():
        (directory / f"{name}.yaml").write_text(json.dumps(document, indent=2) + "\n")
