"""Tasks of EleutherAI's lm-evaluation-harness: its command asks, and its log of samples says what was right.

Written to version 0.4.13: `samples_TASK_TIME.jsonl` has one object per example and filter, with `doc_id`, `doc_hash`,
`prompt_hash`, `target_hash`, `filter`, `metrics` (names) and each metric under its name (lm_eval/evaluator.py,
lm_eval/loggers/evaluation_tracker.py). Older versions back to 0.4.3 write the same but for `metrics`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import signal
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from workers.errors import WorkerToolError, WrongUsage
from workers.evaluation.client import Client, Endpoint
from workers.evaluation.tasks.task import Answer, TaskAnswers

PREFIX = "lm-eval:"
OVERRIDE = "TOLLGATE_LM_EVAL"
WITHIN_SECONDS = 6 * 3600.0
ENDS_WITHIN = 10.0  # after SIGTERM
CONCURRENT = 8
RIGHT = ("exact_match", "acc", "em", "pass@1", "contains")  # metrics that say right or wrong, in order of preference
LAST_LINES = 12


class LmEvalFailed(WorkerToolError):
    """The command failed, or its log has not what pairs examples; the message says which."""


class LmEvalTask:
    """One task by lm-eval's name, or by the path of its YAML file.

    The command is `lm_eval`, or what TOLLGATE_LM_EVAL has. Raises WrongUsage where there is none.
    """

    def __init__(self, task: str) -> None:
        self.name = PREFIX + (Path(task).stem if task.endswith((".yaml", ".yml")) else task)
        self._task = task
        self._command = _command()

    async def answer(self, client: Client, seed: int, count: int) -> TaskAnswers:
        """Runs the command against the client's endpoint, on the first `count` examples. Raises LmEvalFailed."""
        with tempfile.TemporaryDirectory(prefix="tollgate-lm-eval-") as scratch:
            out, log = Path(scratch), Path(scratch) / "log"
            asked = arguments(self._task, client.endpoint, out, seed, count)
            await _run([*self._command, *asked], log, client.endpoint)
            samples = _logs(out)
            if not samples:
                raise LmEvalFailed(f"{self.name} wrote no log of samples; it ended with:\n{_last_words(log)}")
            return TaskAnswers(task=self.name, seed=seed, answers=tuple(read_samples(samples)))


def arguments(task: str, endpoint: Endpoint, out: Path, seed: int, count: int) -> list[str]:
    """The command line after `lm_eval`. Pure. Raises WrongUsage for names that it could not take."""
    model = {
        "model": endpoint.model,
        "base_url": endpoint.url.rstrip("/").removesuffix("/v1") + "/v1/completions",
        "num_concurrent": str(CONCURRENT),
        "max_retries": "1",
    }
    if endpoint.tokenizer:
        model |= {"tokenizer": endpoint.tokenizer, "tokenizer_backend": "huggingface"}
    for name, value in model.items():
        if "," in value or "=" in value:
            raise WrongUsage(f"lm-eval cannot be given the {name} {value!r}: it may have neither a comma nor =")
    return [
        *("--model", "local-completions"),
        *("--model_args", ",".join(f"{name}={value}" for name, value in model.items())),
        *("--tasks", task),
        *("--limit", str(count)),
        *("--seed", str(seed)),
        *("--output_path", str(out)),
        "--log_samples",
    ]


def read_samples(files: Mapping[str, str]) -> list[Answer]:
    """One answer per example from the logs of samples: file name → text. A task with several filters is judged by the
    first. Raises LmEvalFailed."""
    found: list[Answer] = []
    for file, text in files.items():
        subtask = file.removeprefix("samples_").rpartition("_")[0]
        samples = [_sample(file, number, line) for number, line in enumerate(text.split("\n"), 1) if line]
        first = samples[0].get("filter") if samples else None
        judged = [sample for sample in samples if sample.get("filter") == first]
        metric = _metric(file, judged)
        found += [_answer(subtask, metric, sample) for sample in judged]
    if len({answer.example for answer in found}) < len(found):
        raise LmEvalFailed("lm-eval's log has an example twice; it cannot be paired")
    return found


def _logs(out: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(out.rglob("samples_*.jsonl"))}


def _sample(file: str, number: int, line: str) -> Mapping[str, Any]:
    try:
        sample: Any = json.loads(line)
    except ValueError as error:
        raise LmEvalFailed(f"{file}, line {number} is not JSON: {error}") from None
    if not isinstance(sample, dict) or "doc_id" not in sample:
        raise LmEvalFailed(f"{file}, line {number} is no sample of lm-eval: it has no doc_id")
    return cast("dict[str, Any]", sample)


def _metric(file: str, samples: Sequence[Mapping[str, Any]]) -> str:
    """The metric that says of every example whether it is right: 0 or 1, never between."""
    named: Iterable[str] = dict.fromkeys(name for sample in samples for name in sample.get("metrics") or RIGHT)
    for name in sorted(named, key=lambda name: RIGHT.index(name) if name in RIGHT else len(RIGHT)):
        if samples and all(sample.get(name) in (0, 1) for sample in samples):
            return name
    raise LmEvalFailed(
        f"{file} has no metric that is 0 or 1 for every example (it has {', '.join(named) or 'none'}); "
        "McNemar's test needs one, such as acc or exact_match"
    )


def _answer(subtask: str, metric: str, sample: Mapping[str, Any]) -> Answer:
    identity = "/".join(
        str(part)
        for part in (subtask, sample["doc_id"], *(sample.get(f"{of}_hash", "") for of in ("doc", "prompt", "target")))
    )
    text = json.dumps(sample.get("filtered_resps"), ensure_ascii=False)
    return Answer(example=identity, text=text, right=sample[metric] == 1)


def _command() -> list[str]:
    command = shlex.split(os.environ.get(OVERRIDE, "lm_eval"))
    if not command or shutil.which(command[0]) is None:
        raise WrongUsage(
            f"no command {command[0] if command else ''!r}: install it with pip install 'lm-eval[api]' transformers, "
            f"or set {OVERRIDE} to it"
        )
    return command


async def _run(command: Sequence[str], log: Path, endpoint: Endpoint) -> None:
    """Until the command is done; it and its children end with this task, whatever ends it."""
    environ = os.environ | {"OPENAI_API_KEY": endpoint.key or "none", "TOKENIZERS_PARALLELISM": "false"}
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=asyncio.subprocess.STDOUT,
            env=environ,
            start_new_session=True,
        )
    try:
        async with asyncio.timeout(WITHIN_SECONDS):
            status = await process.wait()
    except TimeoutError:
        raise LmEvalFailed(f"{command[0]} was not done within {WITHIN_SECONDS / 3600:g} hours") from None
    finally:
        if process.returncode is None:
            await _end(process)
    if status:
        raise LmEvalFailed(f"{shlex.join(command)} failed with status {status}; it ended with:\n{_last_words(log)}")


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        async with asyncio.timeout(ENDS_WITHIN):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _last_words(log: Path) -> str:
    return "\n".join(f"  {line}" for line in log.read_text(errors="replace").splitlines()[-LAST_LINES:])
