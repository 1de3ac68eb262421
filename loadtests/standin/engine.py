"""What one request is, what a reply is, and what all requests of a worker share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from loadtests.standin.behaviour import Behaviour
from loadtests.standin.dialect import anthropic
from loadtests.standin.dialect.shape import DONE, Frames, Shape, chunk, fill
from loadtests.standin.dialect.speech import VLLM, Speech
from loadtests.standin.errors import refused
from loadtests.standin.metrics import Metrics
from loadtests.standin.models import Models
from loadtests.standin.seats import Seats

Task = Literal["any", "generate", "embed"]
Dialect = Literal["openai", "anthropic", "responses"]
JSON = b"application/json"


@dataclass(slots=True, frozen=True)
class Request:
    method: str
    path: str
    content_type: str
    body: bytes
    request_id: str | None  # x-request-id becomes part of the answer's id
    wish: str | None  # the x-standin header


@dataclass(slots=True)
class Answer:
    """A whole document."""

    status: int
    body: bytes
    content_type: bytes | None = JSON
    tokens: int = 0  # generated; counted by the engine once it is said
    finish_reason: str = "stop"
    behaviour: Behaviour | None = None  # None: no inference, faults do not apply


@dataclass(slots=True)
class Stream:
    """A 200 event stream, chunk framing included. Filling in the id and time is left to the moment of sending."""

    frames: Frames
    ident: str
    created: int
    choices: int
    tokens: int  # in all; an end-of-sequence token has no event in some dialects
    finish_reason: str
    behaviour: Behaviour
    dialect: Dialect
    speech: Speech = VLLM

    def filled(self, frame: bytes) -> bytes:
        return fill(frame, self.ident, self.created)

    def error_events(self) -> bytes | None:
        """How this endpoint tells of an error once the stream is open; None: it breaks the connection, as vLLM does."""
        if self.dialect == "openai":
            event = self.speech.event(refused(self.behaviour.status))
            return None if event is None else chunk(event) + chunk(DONE)
        return chunk(anthropic.BROKEN) if self.dialect == "anthropic" else None


Reply = Answer | Stream


@dataclass(slots=True)
class Engine:
    models: Models
    metrics: Metrics
    behaviour: Behaviour
    task: Task = "any"
    prompt_details: bool = True  # runs with --enable-prompt-tokens-details
    max_queued: int | None = None  # refuse when more than this many wait, as --max-num-queued-reqs looks from outside
    seats: Seats | None = None  # None: it runs all that come
    healthy: bool = True
    speech: Speech = VLLM  # which engine it is
    undrained: bool = True  # of figures that are given to one reader only
    plans: dict[object, object] = field(default_factory=dict[object, object])  # kept by generation.py

    def admit(self, behaviour: Behaviour, shape: Shape) -> None:
        """The last gate before generation: the queue limit, or the status the request asked to be refused with."""
        if behaviour.fault == "refuse":
            status = behaviour.status
        elif self._queue_is_full():
            status = 503
        else:
            self.metrics.admit(shape.prompt_tokens * shape.each, (shape.cached_tokens or 0) * shape.each)
            if self.seats is None:  # who has to wait for a seat is reported once it has one
                self.begin(behaviour, shape.tokens)
            return
        self.metrics.rejections += status == 503
        raise refused(status)

    def begin(self, behaviour: Behaviour, tokens: int, waited: float = 0.0) -> None:
        """Generation begins, after so many seconds in the queue."""
        first_token = waited + behaviour.header_delay + behaviour.first_token_delay
        self.metrics.expect(first_token, behaviour.pace, max(0, tokens - 1), waited)

    def _queue_is_full(self) -> bool:
        if self.max_queued is None:
            return False
        return self.metrics.active > self.max_queued + (self.seats.count if self.seats else 0)

    @property
    def running(self) -> int:
        return self.metrics.active if self.seats is None else self.seats.taken
