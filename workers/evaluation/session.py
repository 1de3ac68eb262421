"""Measures one endpoint: all that was asked for, in one go, so that its engine can make room for the next."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import get_args

from workers.errors import WorkerToolError
from workers.evaluation import speed
from workers.evaluation.amount import Amount, Part
from workers.evaluation.client import Client, Endpoint
from workers.evaluation.comparison import compare, divergence_of
from workers.evaluation.engine import Served
from workers.evaluation.machine import memory_of
from workers.evaluation.measured import Measured, pack
from workers.evaluation.progress import Progress
from workers.evaluation.result import Running
from workers.evaluation.robustness import ask_robustness, inputs
from workers.evaluation.schemas import Mode, ask_schemas
from workers.evaluation.scoring import long_windows_of, score, tokenize, windows_of
from workers.evaluation.tasks.asking import ask_tasks
from workers.evaluation.tasks.task import AnyTask
from workers.evaluation.texts import Text

CONCURRENCY = 4  # prompts whose every log-probability is asked for: their answers are large
OTHERWISE = 7  # so many at a time make other batches, in which sums come out a little different
MODES = get_args(Mode)
SAMPLE = "def encode(text: str) -> list[int]:\n    return [ord(c) for c in text]  # Straße, 北京, 🙂\n"


class OtherTokenizer(WorkerToolError):
    """The candidate cuts text into other tokens than the reference: their distributions can not be compared."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is measured, and on what. `context` is the longest that both models take, in tokens."""

    parts: Collection[Part]
    amount: Amount
    text: Text
    seed: int
    context: int
    tasks: tuple[AnyTask, ...] = ()


async def measure(
    endpoint: Endpoint, asked: Asked, reference: Measured | None, served: Served | None, role: str, progress: Progress
) -> Measured:
    """A reference (`reference` is None) chooses the windows and is asked twice; a candidate gets the same windows.
    `served` is the engine where this process runs it: only then its memory is known.

    Raises NoAnswer, Refused, CannotScore and OtherTokenizer.
    """
    async with Client(endpoint, concurrency=CONCURRENCY) as client:
        sample = tuple(await tokenize(client, SAMPLE))
        if reference is not None and sample != reference.sample:
            raise OtherTokenizer(
                f"{endpoint} cuts text into other tokens than the reference, so nothing of the two can be compared;"
                " evaluate it against the checkpoint that it was made from"
            )
        measured = Measured(engine=await _engine(client), sample=sample)
        if "divergence" in asked.parts:
            measured = await _text(client, asked, measured, reference, role, progress)
        if "long-context" in asked.parts:
            measured = await _long(client, asked, measured, reference, role, progress)
    measured = await _answers(endpoint, asked, measured, role, progress)
    if "speed" in asked.parts:
        windows = measured.windows or await _some_windows(endpoint, asked)
        done = progress.stage(f"{role}: speed", asked.amount.load.requests)
        found = await speed.measure(endpoint, windows, asked.amount.load, asked.seed, done)
        measured = measured.model_copy(update={"running": Running(speed=found)})
    if served is not None:
        running = measured.running.model_copy(update={"memory": memory_of(served)})
        measured = measured.model_copy(update={"running": running})
    if "robustness" in asked.parts:
        done = progress.stage(f"{role}: hard inputs", len(inputs(asked.seed, asked.context)))
        async with Client(endpoint) as client:
            robustness = await ask_robustness(client, asked.seed, asked.context, done)
        measured = measured.model_copy(update={"robustness": robustness})
    return measured


async def _answers(endpoint: Endpoint, asked: Asked, measured: Measured, role: str, progress: Progress) -> Measured:
    """What it answers to the examples of every task, and to requests for JSON."""
    amount = asked.amount
    async with Client(endpoint) as client:
        if "tasks" in asked.parts and asked.tasks:
            done = progress.stage(f"{role}: tasks", amount.examples * len(asked.tasks))
            tasks = await ask_tasks(client, asked.tasks, asked.seed, amount.examples, done)
            measured = measured.model_copy(update={"tasks": tasks})
        if "schemas" in asked.parts:
            done = progress.stage(f"{role}: JSON schemas", amount.schemas * len(MODES))
            schemas = await ask_schemas(client, asked.seed, amount.schemas, done)
            measured = measured.model_copy(update={"schemas": schemas})
    return measured


async def _text(
    client: Client, asked: Asked, measured: Measured, reference: Measured | None, role: str, progress: Progress
) -> Measured:
    """What it says of the text's next tokens, and a reference once more: other windows together, in another order."""
    amount = asked.amount
    windows = reference.windows if reference else await _windows(client, asked)
    scored = await score(client, windows, amount.top_k, progress.stage(f"{role}: text", len(windows)))
    floor = None
    if reference is None:
        done = progress.stage(f"{role}: text again, the floor", len(windows))
        async with Client(client.endpoint, concurrency=OTHERWISE) as other:
            again = await score(other, windows[::-1], amount.top_k, done)
        floor = divergence_of(list(map(compare, scored, again[::-1])), amount.top_k, asked.seed)
    return measured.model_copy(update={"windows": windows, "scored": pack(scored), "floor": floor})


async def _long(
    client: Client, asked: Asked, measured: Measured, reference: Measured | None, role: str, progress: Progress
) -> Measured:
    """The end of each long context. One token of it is left for the answer that some engines insist on."""
    amount, tokens = asked.amount, min(asked.context, asked.amount.longest_context) - 1
    if reference is not None:
        windows = reference.long_windows
    else:
        found = await long_windows_of(client, asked.text, amount.long_windows, tokens, asked.seed)
        windows = tuple(map(tuple, found))
        if not windows:
            progress.note(f"{asked.text.name} is too short for a context of {tokens:,} tokens: it is not measured")
    done = progress.stage(f"{role}: long context", len(windows)) if windows else _nothing
    scored = await score(client, windows, amount.top_k, done, last=amount.long_tail)
    return measured.model_copy(update={"long_windows": windows, "long_scored": pack(scored)})


async def _windows(client: Client, asked: Asked) -> tuple[tuple[int, ...], ...]:
    tokens = min(asked.amount.window_tokens, asked.context - 1)
    return tuple(map(tuple, await windows_of(client, asked.text, asked.amount.windows, tokens, asked.seed)))


async def _some_windows(endpoint: Endpoint, asked: Asked) -> tuple[tuple[int, ...], ...]:
    async with Client(endpoint) as client:
        return await _windows(client, asked)


async def _engine(client: Client) -> str:
    """`vllm 0.32.0`, as far as the endpoint says what it is."""
    reply = await client.get("/version")
    version = reply.fields.get("version")
    return f"vllm {version}" if reply.status == 200 and isinstance(version, str) else "unknown"


def _nothing() -> None:
    pass
