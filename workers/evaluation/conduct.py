"""An evaluation from beginning to end: one engine at a time, what the reference said kept for the next candidate."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import importlib.metadata
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from workers.evaluation.assemble import assemble
from workers.evaluation.client import Client, Endpoint
from workers.evaluation.engine import Served, serving
from workers.evaluation.machine import device_name, engine_libraries
from workers.evaluation.measured import Kept, Measured, key_of
from workers.evaluation.progress import Progress
from workers.evaluation.result import WINDOWS, Conditions, Evaluation, Subject
from workers.evaluation.schemas import GUIDED_ARGUMENTS
from workers.evaluation.session import Asked, measure
from workers.evaluation.subject import Checkpoint
from workers.evaluation.tasks.asking import fingerprint


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: a checkpoint that an engine is started on, with an adapter or not, or an endpoint that runs."""

    subject: Subject
    checkpoint: Checkpoint | None = None
    endpoint: Endpoint | None = None
    adapter: Path | None = None


@dataclass(frozen=True, slots=True)
class Means:
    """With what engines are started, and where they and the reference's measurements go."""

    log_dir: Path
    kept: Kept
    engine_args: tuple[str, ...] = ()
    start_within: float = 600.0


def conduct(candidate: Side, reference: Side, asked: Asked, means: Means, progress: Progress) -> Evaluation:
    """Without verdicts. Raises WorkerToolError where an endpoint cannot be measured."""
    runs_here = candidate.checkpoint is not None or reference.checkpoint is not None
    libraries = engine_libraries() if runs_here else {}
    device = device_name() if runs_here else "unknown (remote)"
    against = _reference(reference, asked, means, {"device": device, "libraries": libraries}, progress)
    measured = _measure(candidate, asked, means, against, "candidate", progress)
    conditions = Conditions(
        at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        tollgate=_version(),
        engine=measured.engine,
        device=device,
        libraries=libraries,
        seed=asked.seed,
        texts={"text": asked.text.sha256, WINDOWS: _sha256_of(against.windows)}
        | {given.task: given.asked for given in against.tasks},
        amount=asked.amount.as_json(),
    )
    found = assemble(candidate.subject, reference.subject, conditions, measured, against, asked.amount)
    return found.model_copy(update={"layers": candidate.checkpoint.layers}) if candidate.checkpoint else found


def context_of(endpoint: Endpoint) -> int | None:
    """Tokens, where the endpoint says so. Raises NoAnswer where there is none."""

    async def ask() -> int | None:
        async with Client(endpoint) as client:
            return await client.context()

    return asyncio.run(ask())


def _reference(
    side: Side, asked: Asked, means: Means, conditions: Mapping[str, object], progress: Progress
) -> Measured:
    """As it was measured before, where all that it depends on is the same; an endpoint can change at any time."""
    if side.checkpoint is None:
        return _measure(side, asked, means, None, "reference", progress)
    key = key_of(
        dict(conditions)
        | {"digest": side.subject.digest, "text": asked.text.sha256, "parts": sorted(asked.parts), "seed": asked.seed}
        | {"context": asked.context, "amount": asdict(asked.amount), "args": means.engine_args}
        | {"tasks": fingerprint(asked.tasks, asked.seed, asked.amount.examples)}
    )
    if found := means.kept.find(key):
        progress.note(f"reference: {side.subject.name} was measured before, as it is asked now")
        return found
    measured = _measure(side, asked, means, None, "reference", progress)
    if problem := means.kept.keep(key, measured):
        progress.note(f"reference: not kept for the next candidate: {problem}")
    return measured


def _measure(
    side: Side, asked: Asked, means: Means, reference: Measured | None, role: str, progress: Progress
) -> Measured:
    with _standing(side, asked.context, means, role, progress) as (endpoint, served):
        return asyncio.run(measure(endpoint, asked, reference, served, role, progress))


@contextmanager
def _standing(
    side: Side, context: int, means: Means, role: str, progress: Progress
) -> Generator[tuple[Endpoint, Served | None]]:
    """An endpoint that answers: the one that is there, or an engine for as long as the block takes."""
    if side.endpoint is not None:
        yield side.endpoint, None
        return
    assert side.checkpoint is not None
    name = side.subject.name
    progress.note(f"{role}: starting the engine on {side.checkpoint.directory}")
    with serving(
        str(side.checkpoint.directory),
        name=name if side.adapter is None else f"{name} base",
        log=means.log_dir / f"{role}.log",
        context=context,
        lora={} if side.adapter is None else {name: side.adapter},
        args=(*GUIDED_ARGUMENTS, *means.engine_args),
        start_within=means.start_within,
    ) as served:
        tokenizer = str(side.checkpoint.directory)
        yield Endpoint(served.url, name, tokenizer=tokenizer, scores_alone=side.adapter is not None), served


def _sha256_of(windows: tuple[tuple[int, ...], ...]) -> str:
    return hashlib.sha256("\n".join(" ".join(map(str, window)) for window in windows).encode()).hexdigest()


def _version() -> str:
    try:
        return importlib.metadata.version("tollgate")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
