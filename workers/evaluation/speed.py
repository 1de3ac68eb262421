"""How fast an endpoint answers, so many requests at a time, each with a prompt and an answer of the same lengths."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, cast

from workers.evaluation.client import Client, Endpoint, NoAnswer, Refused
from workers.evaluation.result import Speed

BATCHES = (1, 4, 8, 16)
WARM_UP_TOKENS = 4
DATA = "data: "
END = "[DONE]"

Line = tuple[float, str]  # seconds since the request was sent, and what came then


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked for at each batch: `rounds` requests for each that runs at a time, lengths in tokens."""

    batches: Sequence[int] = BATCHES
    rounds: int = 4
    prompt_tokens: int = 128
    answer_tokens: int = 64

    @property
    def requests(self) -> int:
        return sum(self.rounds * batch for batch in self.batches)


@dataclass(frozen=True, slots=True)
class Answered:
    """One request, in seconds: until its first token, and until its last."""

    tokens: int
    first: float
    last: float

    @property
    def between(self) -> float | None:
        """Seconds between two tokens, on average: tokens of several steps may come together."""
        return (self.last - self.first) / (self.tokens - 1) if self.tokens > 1 else None


async def measure(
    endpoint: Endpoint, windows: Sequence[Sequence[int]], load: Load, seed: int, done: Callable[[], None]
) -> tuple[Speed, ...]:
    """Each batch by itself, after a round that is not counted. Raises NoAnswer and Refused."""
    found: list[Speed] = []
    for batch in load.batches:
        async with Client(endpoint, concurrency=batch) as client:
            asking = _Asking(client, load.answer_tokens)
            # Prompts that begin differently, so that the engine has none of them in its prefix cache.
            asked = prompts(windows, load.prompt_tokens, batch * (load.rounds + 1), Random(f"{seed} {batch}"))
            await client.each(asked[:batch], asking.warm_up)
            began = time.perf_counter()
            answered = await client.each(asked[batch:], lambda prompt, asking=asking: asking.one(prompt, done))
            found.append(summary(batch, answered, time.perf_counter() - began))
    return tuple(found)


def prompts(windows: Sequence[Sequence[int]], tokens: int, count: int, random: Random) -> list[list[int]]:
    """Stretches of the windows with one token of the text put in front, a different one for as long as they last."""
    vocabulary = sorted({token for window in windows for token in window})
    random.shuffle(vocabulary)
    found: list[list[int]] = []
    for number in range(count):
        text = windows[number % len(windows)]
        repeated = list(text) * (1 + tokens // len(text))
        found.append([vocabulary[number % len(vocabulary)], *repeated[: tokens - 1]])
    return found


def summary(batch: int, answered: Sequence[Answered], seconds: float) -> Speed:
    """Of requests that took `seconds` together."""
    firsts = sorted(one.first for one in answered)
    between = [one.between for one in answered if one.between is not None]
    return Speed(
        batch=batch,
        requests_per_second=len(answered) / seconds,
        output_tokens_per_second=sum(one.tokens for one in answered) / seconds,
        ttft_p50_ms=1000 * statistics.median(firsts),
        ttft_p95_ms=1000 * firsts[min(len(firsts) - 1, int(0.95 * len(firsts)))],
        inter_token_p50_ms=1000 * statistics.median(between) if between else 0.0,
    )


def read_stream(lines: Sequence[Line]) -> Answered:
    """An answer out of the lines of its stream. Raises ValueError where it is broken or has no token."""
    times: list[float] = []
    tokens = None
    for at, line in lines:
        if not line.startswith(DATA) or line == DATA + END:
            continue
        event = cast("Mapping[str, Any]", json.loads(line.removeprefix(DATA)))
        if "error" in event:
            raise ValueError(f"the stream broke: {event['error']}")
        if event.get("choices"):
            times.append(at)
        if usage := cast("Mapping[str, Any] | None", event.get("usage")):
            tokens = usage.get("completion_tokens")
    if not times:
        raise ValueError("the stream had no token")
    return Answered(int(tokens) if tokens else len(times), times[0], times[-1])


class _Asking:
    """Answers of a fixed length, as far as the endpoint knows how to give them."""

    def __init__(self, client: Client, tokens: int) -> None:
        self._client = client
        self._tokens = tokens
        # vLLM's; an endpoint that refuses them ends an answer where the model does.
        self._fixed: Mapping[str, object] = {"ignore_eos": True, "min_tokens": tokens}

    async def warm_up(self, prompt: Sequence[int]) -> None:
        fields = {"prompt": list(prompt), "max_tokens": WARM_UP_TOKENS, "temperature": 0}
        try:
            await self._client.ask("/v1/completions", **fields, ignore_eos=True, min_tokens=WARM_UP_TOKENS)
        except Refused:
            self._fixed = {}
            await self._client.ask("/v1/completions", **fields)

    async def one(self, prompt: Sequence[int], done: Callable[[], None]) -> Answered:
        lines = await self._client.stream(
            "/v1/completions",
            prompt=list(prompt),
            max_tokens=self._tokens,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
            **self._fixed,
        )
        done()
        try:
            return read_stream(lines)
        except (ValueError, TypeError, AttributeError) as error:
            raise NoAnswer(f"{self._client.endpoint} broke off a streamed answer: {error}") from None
