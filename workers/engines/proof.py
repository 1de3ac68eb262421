"""Refuses to start an engine on something else than what was registered, or on a machine that it does not fit."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

from gateway.table import Model, Requires, Version, Worker
from workers.engines.spec import CannotLaunch
from workers.registry import hardware
from workers.registry.digest import CannotDigest
from workers.registry.seen import Seen

SEEN = "digests.json"
LARGE = 10**9  # bytes that take a second or more to read


class Proof:
    """What is looked at once for all workers of a launch: the machine, and digests kept from the launches before."""

    def __init__(self, run_dir: Path, machine: Callable[[], hardware.Machine] = hardware.here) -> None:
        self._seen = Seen(run_dir / SEEN)
        self._look = machine
        self._reading = threading.Lock()  # workers are looked at again from threads of their own

    @cached_property
    def _machine(self) -> hardware.Machine:
        return self._look()

    def check_machine(self, worker: Worker, version: Version, environ: Mapping[str, str]) -> None:
        """Raises CannotLaunch where this machine lacks something that the version asks for."""
        if version.requires == Requires():
            return
        on_gpu = worker.gpu is not None and not worker.gpu.name.startswith("cpu")
        lacking = hardware.unmet(version.requires, self._machine, gpus=worker.gpus if on_gpu else 0, environ=environ)
        if lacking:
            where = f"models.yaml: {worker.model}: versions: {version.name}"
            raise CannotLaunch(f"{where}: `requires` asks for {'; and for '.join(lacking)} (worker {worker.name})")

    def check_version(self, worker: Worker, version: Version, path: Path) -> None:
        """Raises CannotLaunch where the artifact is another than was registered."""
        if version.digest is not None:
            name = f"{worker.model}@{version.name}"
            where = f"models.yaml: {worker.model}: versions: {version.name}"
            self._check(where, path, version.digest, f"tollgate-worker verify {name}", f"register it again as {name}")

    def check_adapter(self, model: Model, name: str, path: Path, digest: str | None) -> None:
        """Raises CannotLaunch where an adapter is another than was registered."""
        if digest is not None:
            asked = f"{model.name}:{name}"
            where = f"models.yaml: {model.name}: adapters: {name}"
            self._check(where, path, digest, f"tollgate-worker verify {asked}", f"register it again as {asked}")

    def _check(self, where: str, path: Path, digest: str, verify: str, remedy: str) -> None:
        size = sum(file.stat().st_size for file in path.glob("*.safetensors") if file.is_file())
        if size > LARGE:
            print(f"checking {path} against its digest ({size / LARGE:.1f} GB)", file=sys.stderr)
        with self._reading:
            try:
                found = self._seen.digest_of_artifact(path)
            except CannotDigest as error:
                raise CannotLaunch(f"{where}: {error}") from None
            finally:
                self._seen.keep()
        if found != digest:
            raise CannotLaunch(
                f"{where}: {path} is not what was registered: it holds {found}, and `digest` says {digest};"
                f" `{verify}` says which file was changed. Put the right files back, or evaluate what is there and"
                f" {remedy}"
            )
