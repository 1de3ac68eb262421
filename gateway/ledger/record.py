"""The ledger's nouns: what an attempt on a worker came to and for whom, and what a worker was seen to do."""

from __future__ import annotations

from typing import Literal, NamedTuple, final

Outcome = Literal[
    "ok",
    "cached",
    "aborted",  # the client left
    "hedged",  # another worker, asked because this one was slow, answered first
    "broken",  # in the middle of a stream
    "failed",
    "rejected",  # the worker refused the request
    "crashed",  # its gateway was killed while it ran: as far as the last checkpoint knows
]
OUTCOMES: tuple[Outcome, ...] = ("ok", "cached", "aborted", "hedged", "broken", "failed", "rejected", "crashed")
CostBasis = Literal["gpu_time", "token_price", "none"]


class Line(NamedTuple):
    """What an attempt is booked under. Names of the configuration only, so there are few, and sums are kept by them."""

    tenant: str
    key_id: str
    endpoint: str  # "chat.completions", "embeddings", ...
    model: str
    version: str
    adapter: str  # "" for the base model
    route: str
    worker: str  # "" for a cache hit
    cost_basis: CostBasis


class Label(NamedTuple):
    """What clients say themselves; of any number of values."""

    model_asked: str
    user: str = ""  # the request's own `user` field
    tags: str = ""  # its `metadata` as a JSON object with sorted keys; "" for none


@final
class Booking:
    """A line and a label under which attempts are booked, with the number that they have in a segment of a journal: who
    keeps it has that looked up once for all attempts of a segment."""

    __slots__ = ("label", "line", "number", "segment")

    def __init__(self, line: Line, label: Label) -> None:
        self.line = line
        self.label = label
        self.number = 0
        self.segment: object = None  # whose number it is


class Attempt(NamedTuple):
    """What a single attempt on a worker (or a cache hit) was and cost; known by `request_id`, `number`, `correction`.

    A request that was retried has several, of which the last is `final`. What turns out otherwise later is another row
    with a `correction` of 1, 2, ... and the differences as its numbers: rows are added and never changed.

    A tuple and not a dataclass: two are made per request on the hot path.
    """

    request_id: str
    number: int  # of the attempt: 1, 2, ...; 0 for a cache hit
    correction: int
    line: Line
    label: Label
    started_at: float  # the request's arrival, Unix seconds, whole milliseconds: it decides on the period and the hour
    opened_at: float  # the attempt's own beginning, Unix seconds
    ttft_seconds: float | None
    duration_seconds: float  # from opened_at
    outcome: Outcome
    status: int  # HTTP status the worker gave; 0 when none
    estimated: bool  # the engine never reported usage
    final: bool
    prompt_tokens: int
    cached_tokens: int  # those of prompt_tokens that the prefix cache served
    output_tokens: int
    gpu_ns: int  # this attempt's share of the worker's busy time, as its process saw it
    cost_nanousd: int  # at the time; what budgets count
    choices: int = 1  # asked for of each prompt, whose tokens an engine counts so often; here they are once

    @property
    def attempt_id(self) -> str:
        return f"{self.request_id}.{self.number}"


class Reading(NamedTuple):
    """What one gateway process saw of one worker, every few seconds. Counters of the engine are -1 where unknown."""

    at: float  # Unix seconds
    source: str  # the journal it was written to: the process
    worker: str
    model: str
    version: str
    hourly: int  # nano-USD an hour; 0 for one that is priced by the token
    up: bool
    busy_ns: int  # with something in flight from this process, since its start; `audits.LAST`: this is its last one
    in_flight: int  # of this process
    running: int  # requests in the engine
    waiting: int  # requests in the engine's queue
    kv_usage: float  # of the engine's KV cache, 0..1; -1 where unknown
    prompt_tokens: int  # engine's counter since engine_started
    output_tokens: int  # engine's counter since engine_started
    engine_started: float  # Unix seconds; 0 where unknown. Another value, or a counter that fell, is a restart
