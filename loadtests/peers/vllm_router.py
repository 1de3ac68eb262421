"""vllm-router (Rust) from its Python package; round robin, the cheapest of its policies."""

from __future__ import annotations

from loadtests.peers.base import Place, Start, free_port, virtual_environment


class VllmRouter:
    name = "vllm-router"
    streams = 500
    processes = 1

    def install(self) -> None:
        virtual_environment(self.name)

    def start(self, place: Place) -> Start:
        command = [virtual_environment(self.name) / "vllm-router", "--worker-urls", place.worker_url]
        command += ["--host", "127.0.0.1", "--port", str(place.port), "--policy", "round_robin"]
        command += ["--prometheus-port", str(free_port()), "--log-level", "error"]
        return Start(command)
