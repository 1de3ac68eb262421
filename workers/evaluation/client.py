"""Asks an OpenAI-compatible endpoint. The one importer of HTTP in the evaluation.

Requests under way, their time and the size of an answer are bounded. Only a connection that could not be made is tried
again: a request that may have arrived is never sent twice.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar, cast

import httpx2 as httpx

from workers.errors import WorkerToolError

CONCURRENCY = 16
ANSWER_WITHIN = 300.0  # a long prompt's log-probabilities on a busy CPU
CONNECT_WITHIN = 10.0
CONNECT_TRIES = 5
FIRST_PAUSE = 0.2  # before the second try; doubled each time
LARGEST_ANSWER = 128 << 20  # bytes; twenty log-probabilities for each of 100,000 tokens
MOST_LINES = 1_000_000  # of a stream
IDLE_SECONDS = 2.0  # less than servers keep idle connections, so that none is used that is just being closed
SHOWN = 300

Item = TypeVar("Item")
Result = TypeVar("Result")


class NoAnswer(WorkerToolError):
    """The endpoint could not be reached, went away, or took too long; the message says which."""


class Refused(WorkerToolError):
    """The endpoint answered, but not with what was asked for."""

    def __init__(self, endpoint: Endpoint, path: str, reply: Reply) -> None:
        super().__init__(f"{endpoint} answered {path} with {reply.status}: {reply.message}")
        self.status = reply.status
        self.reason = reply.message


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model answers: `url` without /v1, `model` as it is named there (a LoRA adapter has a name of its own).
    `tokenizer` is its directory or its name on Hugging Face, for harnesses that count tokens themselves. Where
    `scores_alone`, a prompt's log-probabilities are asked for with nothing else under way: with LoRA, vLLM mixes them
    up in a batch or dies of it (vllm-project/vllm#16668, #29955; seen in 0.32 on a CPU)."""

    url: str
    model: str
    key: str | None = None
    tokenizer: str | None = None
    scores_alone: bool = False

    def __str__(self) -> str:
        return f"{self.model} at {self.url}"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of any status. `body` is its JSON (NaN and Infinity included), None where it is none."""

    status: int
    body: Any
    text: str

    @property
    def fields(self) -> Mapping[str, Any]:
        """The body where it is an object, otherwise nothing."""
        found = self.body
        return cast("Mapping[str, Any]", found) if isinstance(found, Mapping) else {}

    @property
    def message(self) -> str:
        """What went wrong, as the endpoint says it, in one line."""
        error: object = self.fields.get("error", self.fields.get("message", self.text))
        if isinstance(error, dict):
            error = cast("dict[str, object]", error).get("message", self.text)
        return " ".join(str(error).split())[:SHOWN] or "an empty answer"


class Client:
    """`async with Client(endpoint) as client`: at most `concurrency` requests at a time, each within `answer_within`
    seconds. Raises NoAnswer."""

    def __init__(
        self, endpoint: Endpoint, *, concurrency: int = CONCURRENCY, answer_within: float = ANSWER_WITHIN
    ) -> None:
        self.endpoint = endpoint
        self._concurrency = concurrency
        self._answer_within = answer_within
        self._room = asyncio.Semaphore(concurrency)
        self._http = httpx.AsyncClient(
            base_url=endpoint.url.rstrip("/").removesuffix("/v1"),
            headers={"authorization": f"Bearer {endpoint.key}"} if endpoint.key else {},
            timeout=httpx.Timeout(None, connect=CONNECT_WITHIN),
            limits=httpx.Limits(max_connections=concurrency, keepalive_expiry=IDLE_SECONDS),
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ask(self, path: str, **fields: object) -> Mapping[str, Any]:
        """The answer to POST `path` with the model's name and `fields`. Raises Refused unless it is 200 and an
        object."""
        reply = await self.post(path, {"model": self.endpoint.model} | fields)
        if reply.status != 200 or not reply.fields:
            raise Refused(self.endpoint, path, reply)
        return reply.fields

    async def post(self, path: str, payload: Mapping[str, object]) -> Reply:
        """Any answer to exactly this. Strings may have lone surrogates: they are sent escaped."""
        content = json.dumps(payload, allow_nan=False).encode("ascii")
        return await self._send("POST", path, content)

    async def get(self, path: str) -> Reply:
        return await self._send("GET", path, None)

    async def stream(self, path: str, **fields: object) -> list[tuple[float, str]]:
        """The lines that are not empty of a streamed answer to POST `path`, each with the seconds after which it came.
        Raises Refused unless its status is 200."""
        content = json.dumps({"model": self.endpoint.model} | fields, allow_nan=False).encode("ascii")
        lines: list[tuple[float, str]] = []
        async with self._bounded(path):
            began = time.perf_counter()
            headers = {"content-type": "application/json"}
            async with self._http.stream("POST", path, content=content, headers=headers) as answer:
                if answer.status_code != 200:
                    text = (await answer.aread()).decode("utf-8", errors="replace")
                    raise Refused(self.endpoint, path, Reply(answer.status_code, _parsed(text), text))
                async for line in answer.aiter_lines():
                    if len(lines) == MOST_LINES:
                        raise NoAnswer(f"{self.endpoint} answered {path} with more than {MOST_LINES} lines")
                    if line:
                        lines.append((time.perf_counter() - began, line))
        return lines

    async def each(
        self, items: Iterable[Item], ask: Callable[[Item], Awaitable[Result]], *, alone: bool = False
    ) -> list[Result]:
        """`ask` of every item, as many at a time as there is room for or one where `alone`, results in the order of the
        items. The first failure ends the others and is raised."""
        numbered = list(enumerate(items))
        waiting = iter(numbered)
        found: dict[int, Result] = {}

        async def work() -> None:
            for number, item in waiting:
                found[number] = await ask(item)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(1 if alone else self._concurrency, len(numbered))):
                    group.create_task(work())
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [found[number] for number, _ in numbered]

    async def context(self) -> int | None:
        """How many tokens the model's context has, where the endpoint says so (vLLM's `max_model_len`)."""
        reply = await self.get("/v1/models")
        models = cast("list[Mapping[str, Any]]", reply.fields.get("data") or [])
        lengths = [model.get("max_model_len") for model in models if model.get("id") == self.endpoint.model]
        return next((length for length in lengths if isinstance(length, int)), None)

    async def _send(self, method: str, path: str, content: bytes | None) -> Reply:
        async with self._bounded(path):
            return await self._tried(method, path, content)

    @asynccontextmanager
    async def _bounded(self, path: str) -> AsyncGenerator[None]:
        """One request at most beside the others, within its time; what HTTP raises is said in this file's words."""
        async with self._room:
            try:
                async with asyncio.timeout(self._answer_within):
                    yield
            except TimeoutError:
                raise NoAnswer(f"{self.endpoint} did not answer {path} within {self._answer_within:g} s") from None
            except httpx.HTTPError as error:
                raise NoAnswer(
                    f"{self.endpoint} was lost while it answered {path} ({_described(error)}); its log says why"
                ) from None

    async def _tried(self, method: str, path: str, content: bytes | None) -> Reply:
        pause = FIRST_PAUSE
        for attempt in range(1, CONNECT_TRIES + 1):
            try:
                return await self._once(method, path, content)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                if attempt == CONNECT_TRIES:
                    raise NoAnswer(
                        f"{self.endpoint} cannot be reached ({_described(error)}); is it running, and the URL right?"
                    ) from None
            await asyncio.sleep(pause)
            pause *= 2
        raise AssertionError("the last try returns or raises")

    async def _once(self, method: str, path: str, content: bytes | None) -> Reply:
        headers = {} if content is None else {"content-type": "application/json"}
        body = bytearray()
        async with self._http.stream(method, path, content=content, headers=headers) as answer:
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > LARGEST_ANSWER:
                    raise NoAnswer(f"{self.endpoint} answered {path} with more than {LARGEST_ANSWER >> 20} MiB")
        text = body.decode("utf-8", errors="replace")
        return Reply(answer.status_code, _parsed(text), text)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _described(error: Exception) -> str:
    return str(error) or type(error).__name__
