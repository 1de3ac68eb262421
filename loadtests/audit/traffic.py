"""Requests of every kind through a gateway, of which a share leaves at every moment an answer has."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from loadtests.client import Target, post

TEXT = "Write a function that reads the lines of a file, and say what it does and why it is made so. "
ANSWER_SECONDS = 120.0

# When a client leaves, and after how many events (streams) or seconds (whole answers).
LEAVES: Mapping[str, Callable[[random.Random, bool], float]] = {
    "before the headers": lambda draw, stream: draw.uniform(0.0, 0.01),
    "before the first token": lambda draw, stream: draw.uniform(0.005, 0.05),
    "early": lambda draw, stream: draw.randint(1, 4) if stream else draw.uniform(0.03, 0.15),
    "late": lambda draw, stream: draw.randint(10, 80) if stream else draw.uniform(0.1, 0.6),
}
BY_EVENTS = frozenset({"early", "late"})  # of a stream


class Ask(NamedTuple):
    path: str
    body: dict[str, Any]
    stream: bool
    leaves: str  # "" for one that stays
    after: float


class Seen(NamedTuple):
    statuses: Counter[int]  # 0 for who left before there was one
    left: Counter[str]


def asks(draw: random.Random, model: str, count: int, aborts: float) -> list[Ask]:
    """As many of each endpoint, streamed or not; `aborts` of them, exactly, leave. Half of chats and completions ask
    for several choices, a third of completions have two prompts."""
    leaving = set(draw.sample(range(count), round(count * aborts)))
    return [_ask(draw, model, number, number in leaving) for number in range(count)]


async def run(target: Target, every: list[Ask], clients: int) -> Seen:
    """With so many clients at a time."""
    queue = list(reversed(every))
    seen = Seen(Counter(), Counter())

    async def client() -> None:
        while queue:
            ask = queue.pop()
            seen.statuses[await _answer(target, ask)] += 1
            if ask.leaves:
                seen.left[f"{'stream' if ask.stream else 'whole'}, {ask.leaves}"] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return seen


def _ask(draw: random.Random, model: str, number: int, leaves: bool) -> Ask:
    stream = bool(number // 4 % 2)
    text = TEXT * draw.randint(1, 12) + str(draw.random())
    most = draw.choice((1, 8, 30, 60)) if not leaves else 300
    chat = {"messages": [{"role": "user", "content": text}]}
    many = {"n": draw.choice((1, 1, 2, 3)), "max_tokens": most, "ignore_eos": leaves}
    prompts = draw.choice((text, text, [text, "And then? " + text]))
    path, body = (
        ("/v1/chat/completions", {**chat, **many}),
        ("/v1/completions", {"prompt": prompts, **many}),
        ("/v1/responses", {"input": text, "max_output_tokens": most}),
        ("/v1/messages", {**chat, "max_tokens": most}),
    )[number % 4]
    when = draw.choice(list(LEAVES)) if leaves else ""
    if when == "late" and number % 4 > 1:
        when = "early"  # these two end when the model wants to
    return Ask(
        path, {"model": model, "stream": stream, **body}, stream, when, LEAVES[when](draw, stream) if when else 0
    )


async def _answer(target: Target, ask: Ask) -> int:
    """The status; 0 when the client left before it came."""
    reader, writer = await asyncio.open_connection(target.host, target.port)
    request = post(target, ask.path, ask.body).replace(b"\r\n", b"\r\nconnection: close\r\n", 1)
    writer.write(request)
    by_events = ask.stream and ask.leaves in BY_EVENTS
    received = bytearray()

    async def read() -> None:
        while data := await reader.read(1 << 16):
            received.extend(data)
            if by_events and received.count(b"\n\n") > ask.after:
                return

    try:
        await asyncio.wait_for(read(), ask.after if ask.leaves and not by_events else ANSWER_SECONDS)
    except TimeoutError:
        if not ask.leaves:
            raise
    finally:
        writer.transport.abort()
    head = bytes(received[:12])
    status = int(head[9:12]) if head.startswith(b"HTTP/1.1 ") and len(head) == 12 else 0
    if status not in (0, 200):
        raise RuntimeError(f"{ask.path} was answered: {bytes(received[:600])!r}")
    if status == 200 and not ask.leaves and not ask.stream:
        orjson.loads(received[received.index(b"\r\n\r\n") + 4 :])
    return status
