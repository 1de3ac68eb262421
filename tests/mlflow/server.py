"""A real MLflow tracking server and model registry of the tests' own: SQLite, files in a directory, loopback."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2

from tests.eventually import eventually
from tests.ports import reserved_port

PYTHON = Path(__file__).resolve().parents[2] / ".venvs/mlflow/bin/python"
START_SECONDS = 240.0  # it makes its database first, and a busy machine imports it slowly
END_SECONDS = 30.0
ENVIRONMENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


@contextmanager
def running(directory: Path) -> Iterator[str]:
    """Its address, as long as the block runs."""
    port = reserved_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(PYTHON), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{directory / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(directory / "artifacts")]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MLFLOW"))}
    with (directory / "mlflow.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=directory, env=environ | ENVIRONMENT, stdout=log, stderr=log, start_new_session=True
        )
    try:

        def answers() -> bool:
            assert process.poll() is None, (directory / "mlflow.log").read_text()
            try:
                return httpx2.get(f"{url}/health", timeout=5).status_code == 200
            except httpx2.TransportError:
                return False

        eventually(answers, "MLflow answers", START_SECONDS)
        yield url
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
