"""A vLLM server for as long as a measurement takes: on a checkpoint, on a free port, gone for certain afterwards."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx

from workers.engines.vllm import CPU_ARGUMENTS, CPU_ENVIRONMENT, ENVIRONMENT, LORA_RANKS
from workers.environments import ENGINE
from workers.errors import WorkerToolError
from workers.supervisor import guard
from workers.supervisor.excerpt import last_words
from workers.supervisor.process import LOG_READ_BYTES, CannotStart, start_guarded
from workers.weight_files import read_header

GRACE = 5.0  # seconds between SIGTERM and SIGKILL: nobody's request is lost
ASK_EVERY = 0.25
ASK_WITHIN = 60.0  # the first inference may still compile kernels
MAX_LOGPROBS = 1024  # vLLM refuses more than 20 otherwise

WEIGHTS = re.compile(r"Model loading took ([\d.]+) GiB")  # vllm/v1/worker/gpu_model_runner.py; not said on a CPU
KV_TOKENS = re.compile(r"KV cache size: ([\d,]+) tokens")  # vllm/v1/core/kv_cache_utils.py


class CannotServe(WorkerToolError):
    """The engine did not start on this checkpoint; the message has what it said last."""


@dataclass(frozen=True, slots=True)
class Startup:
    """What the engine said when it started: bytes of weights it loaded, and tokens that its KV cache has room for.

    A CPU worker does not say what its weights take: then they are those of the checkpoint's tensors.
    """

    weight_bytes: int
    kv_tokens: int


@dataclass(frozen=True, slots=True)
class Served:
    """A server that answers. `pid` is the process below which all of the engine runs."""

    url: str  # http://127.0.0.1:PORT, without /v1
    model: str  # as requests name it
    pid: int
    log: Path
    started: Startup


@contextmanager
def serving(
    model: str,
    *,
    name: str,
    log: Path,
    context: int,
    lora: Mapping[str, Path] = {},
    args: Sequence[str] = (),
    start_within: float = 600.0,
) -> Generator[Served]:
    """A real vLLM server on the checkpoint `model`, which answers when the block begins and is gone when it ends.

    Also when this process is killed: the server runs under the supervisor's guard. `lora` are adapters by the name that
    requests use; `args` are vLLM's and come last. Raises CannotServe, and WorkerToolError without engine environment.
    """
    python = ENGINE.python(Path.cwd())
    on_gpu = has_gpu()
    with reserved_port() as port:
        command = (
            *(str(python), "-m", "vllm.entrypoints.openai.api_server"),
            *("--model", model),
            *("--served-model-name", name),
            *("--host", "127.0.0.1"),
            *("--port", str(port)),
            *("--max-model-len", str(context)),
            *("--max-logprobs", str(MAX_LOGPROBS)),
            "--disable-uvicorn-access-log",
            *(() if on_gpu else CPU_ARGUMENTS),
            *_lora_arguments(lora),
            *args,
        )
        with _guarded(command, ENVIRONMENT | ({} if on_gpu else CPU_ENVIRONMENT), log) as (process, began_at):
            url = f"http://127.0.0.1:{port}"
            _wait_until_answered(url, name, process, log, began_at, start_within)
            yield Served(url, name, process.pid, log, startup(_said(log, began_at), Path(model)))


@contextmanager
def _guarded(
    command: Sequence[str], env: Mapping[str, str], log: Path
) -> Generator[tuple[subprocess.Popen[bytes], int]]:
    """The guard of a command, and where in the log this run begins."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        began_at = log.stat().st_size if log.exists() else 0
        process, pipe = start_guarded(command, env, log, GRACE)
    except OSError as error:
        raise CannotServe(f"the engine's log {log} cannot be written: {error.strerror}") from error
    except CannotStart as error:
        raise CannotServe(str(error)) from error
    try:
        yield process, began_at
    finally:
        os.close(pipe)
        _bury(process)


def has_gpu() -> bool:
    """Whether vLLM would find an NVIDIA GPU on this machine."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or shutil.which("nvidia-smi") is None:
        return False
    return b"GPU " in subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False, timeout=60).stdout


@contextmanager
def reserved_port() -> Generator[int]:
    """A port of this machine that nobody else is given: a bound socket that never listens keeps it. A server that sets
    SO_REUSEADDR, as vLLM's does, can listen there all the same."""
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        yield keeper.getsockname()[1]


def startup(said: str, checkpoint: Path) -> Startup:
    """What an engine's log tells of its start. Pure but for the checkpoint's headers, where the log is silent."""
    weights, tokens = WEIGHTS.search(said), KV_TOKENS.search(said)
    return Startup(
        weight_bytes=round(float(weights[1]) * 2**30) if weights else tensor_bytes(checkpoint),
        kv_tokens=int(tokens[1].replace(",", "")) if tokens else 0,
    )


def tensor_bytes(checkpoint: Path) -> int:
    """Bytes of all tensors in a checkpoint directory, from the headers of its safetensors files; 0 without any."""
    return sum(tensor.bytes for path in checkpoint.glob("*.safetensors") for tensor in read_header(path))


def _lora_arguments(lora: Mapping[str, Path]) -> tuple[str, ...]:
    if not lora:
        return ()
    rank = max(_rank(path) for path in lora.values())
    allocated = next((one for one in LORA_RANKS if one >= rank), None)
    if allocated is None:
        raise CannotServe(f"an adapter has rank {rank}, vLLM takes {LORA_RANKS[-1]} at most")
    modules = (f"{name}={path}" for name, path in lora.items())
    room = ("--max-loras", str(len(lora)), "--max-lora-rank", str(allocated))
    return "--enable-lora", *room, "--lora-modules", *modules


def _rank(adapter: Path) -> int:
    file = adapter / "adapter_config.json"
    try:
        return int(json.loads(file.read_text())["r"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CannotServe(f"{file} is not a PEFT adapter configuration: {error!r}") from error


def _wait_until_answered(
    url: str, name: str, process: subprocess.Popen[bytes], log: Path, began_at: int, within: float
) -> None:
    """Returns once one token came back, the only proof that it serves."""
    give_up_at = time.monotonic() + within
    last = "it was not asked yet"
    with httpx.Client(trust_env=False, timeout=ASK_WITHIN) as client:
        while process.poll() is None and time.monotonic() < give_up_at:
            try:
                if client.get(f"{url}/health").status_code == 200:
                    asked = {"model": name, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
                    answer = client.post(f"{url}/v1/completions", json=asked)
                    if answer.status_code == 200:
                        return
                    last = f"it answered {answer.status_code}: {answer.text[:200]}"
            except httpx.TransportError as error:
                last = str(error) or type(error).__name__
            time.sleep(ASK_EVERY)
    why = f"no answer within {within:g} s ({last})" if process.poll() is None else f"status {process.returncode}"
    said = "\n  ".join(last_words(_said(log, began_at)))
    raise CannotServe(f"the engine did not start on {name}: {why}; its log is {log}, it ends with:\n  {said}")


def _said(log: Path, began_at: int) -> str:
    """What this run has written to its log, the last megabyte of it."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(began_at if began_at <= size else 0, size - LOG_READ_BYTES))
        return file.read(LOG_READ_BYTES).decode(errors="replace")


def _bury(process: subprocess.Popen[bytes]) -> None:
    """The pipe is closed: the guard ends the engine and then itself. Should it not, it is killed, and its engine too.

    An interrupt while this waits changes nothing: the guard goes on without this process.
    """
    try:
        process.wait(GRACE + 2 * guard.LEAVE_WITHIN + guard.KILL_WITHIN + 5.0)
    except subprocess.TimeoutExpired:
        left = guard.descendants(process.pid)
        process.kill()
        guard.kill(left)
        process.wait()
