"""Portkey's gateway from its npm package. Its streams end in 500 on Node 20: it appends to headers Node has frozen."""

from __future__ import annotations

import shutil
from pathlib import Path

from loadtests.peers.base import ENVIRONMENTS, Place, Start, Unavailable, run_installer

_VERSION = "1.15.2"


class Portkey:
    name = "portkey"
    streams = 0
    processes = 1

    def install(self) -> None:
        if shutil.which("node") is None or shutil.which("npm") is None:
            raise Unavailable("it needs Node.js: apt-get install nodejs npm")
        if not self._program().exists():
            print("installing portkey into .venvs/peers/portkey", flush=True)
            home = ENVIRONMENTS / self.name
            home.mkdir(parents=True, exist_ok=True)
            quiet = ["--silent", "--no-audit", "--no-fund", "--prefix", str(home)]
            run_installer(["npm", "install", *quiet, f"@portkey-ai/gateway@{_VERSION}"])

    def start(self, place: Place) -> Start:
        command = ["node", self._program(), f"--port={place.port}", "--headless"]
        headers = (("x-portkey-provider", "openai"), ("x-portkey-custom-host", f"{place.worker_url}/v1"))
        env = {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}
        return Start(command, env, (*headers, ("authorization", "Bearer none")))

    def _program(self) -> Path:
        return ENVIRONMENTS / self.name / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
