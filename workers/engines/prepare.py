"""Looks up what a worker's launch needs: its engine's Python, its checkpoint, its adapters. Says what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from gateway.table import Engine, Model, Table, Version, Worker
from workers.engines import trtllm, vllm
from workers.engines.proof import Proof
from workers.engines.spec import CannotLaunch, Job, LaunchSpec, LoadedAdapter, read_adapter
from workers.environments import ENGINE


class Launcher(NamedTuple):
    """How one engine is started: its command line, and the Python that it lives in."""

    spec: Callable[[Job, str], LaunchSpec]
    python: Callable[[Path, Mapping[str, str]], Path]


LAUNCHERS: Mapping[Engine, Launcher] = {
    "vllm": Launcher(vllm.spec, ENGINE.python),
    "trtllm": Launcher(trtllm.spec, trtllm.python),
}


def prepare(
    table: Table, worker: Worker, base: Path, run_dir: Path, environ: Mapping[str, str], proof: Proof | None = None
) -> LaunchSpec:
    """What starts `worker`. Relative paths of the configuration, and the engines' environments, are below `base`.
    Raises CannotLaunch where an artifact or the machine is not what the configuration says."""
    proof = proof or Proof(run_dir)
    launcher = LAUNCHERS.get(worker.engine)
    if launcher is None:
        raise CannotLaunch(
            f"worker {worker.name}: {worker.engine} can not be started here, only {' and '.join(LAUNCHERS)};"
            " start it yourself and write its `url` in the place of `launch`"
        )
    model = table.models[worker.model]
    job = Job(
        worker=worker,
        model=model,
        version=model.versions[worker.version],
        artifact=_artifact(worker, model.versions[worker.version], base, environ, proof),
        adapters=_adapters(worker, model, base, proof),
        run_dir=run_dir,
    )
    spec = launcher.spec(job, str(launcher.python(base, environ)))

    def recheck() -> None:
        _artifact(worker, job.version, base, environ, proof)
        _adapters(worker, model, base, proof)

    return replace(spec, recheck=recheck)


def _artifact(worker: Worker, version: Version, base: Path, environ: Mapping[str, str], proof: Proof) -> str:
    where = f"models.yaml: {worker.model}: versions: {version.name}"
    if version.artifact is None:
        raise CannotLaunch(f"{where}: worker {worker.name} is started here, so write the checkpoint's `artifact`")
    path = base / version.artifact
    own: Mapping[str, str] = worker.launch.env if worker.launch else {}
    proof.check_machine(worker, version, {**environ, **own})
    if own.get("HF_HUB_OFFLINE") == "0":  # a name on a model hub is welcome
        if version.digest is None:
            return version.artifact
        if not path.exists():
            raise CannotLaunch(
                f"{where}: `digest` cannot be checked of what the engine fetches itself; delete it, or download the"
                " checkpoint and write its directory as `artifact`"
            )
    if not (path / "config.json").is_file():
        made_by = "demo-models" if version.quantization == "none" else f"quantize BASE --out {version.artifact}"
        raise CannotLaunch(
            f"{where}: {path} holds no checkpoint (no config.json); make it with `tollgate-worker {made_by}`,"
            ' or let the engine fetch it from a hub with `launch: {env: {HF_HUB_OFFLINE: "0"}}`'
        )
    proof.check_version(worker, version, path)
    return str(path)


def _adapters(worker: Worker, model: Model, base: Path, proof: Proof) -> tuple[LoadedAdapter, ...]:
    if worker.max_loras == 0:
        return ()
    found: list[LoadedAdapter] = []
    for adapter in model.adapters.values():
        found.append(read_adapter(model, adapter, base / adapter.path))
        proof.check_adapter(model, adapter.name, base / adapter.path, adapter.digest)
    return tuple(found)
