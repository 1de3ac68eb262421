"""The ledger's one noun: what a single attempt on a worker (or a cache hit) cost, and for whom."""

from __future__ import annotations

from typing import Literal, NamedTuple

Outcome = Literal[
    "ok",
    "cached",
    "aborted",  # the client left
    "hedged",  # another worker, asked because this one was slow, answered first
    "broken",  # in the middle of a stream
    "failed",
    "rejected",  # the worker refused the request
]
CostBasis = Literal["gpu_time", "token_price", "none"]


class Attempt(NamedTuple):
    """One row of the bill. A request that was retried has several, told apart by `attempt_id`.

    A tuple and not a dataclass: one is built per request on the hot path and handed to SQL as it is.
    """

    attempt_id: str  # "<request_id>.<n>", unique
    request_id: str
    started_at: float  # Unix seconds
    tenant: str
    key_id: str
    endpoint: str  # "chat.completions", "embeddings", ...
    model_asked: str  # as the client named it
    model: str
    version: str
    adapter: str  # "" for the base model
    route: str
    worker: str  # "" for a cache hit
    outcome: Outcome
    status: int  # HTTP status the worker gave; 0 when none
    prompt_tokens: int
    cached_tokens: int  # those of prompt_tokens that the prefix cache served
    output_tokens: int
    estimated: bool  # True when the engine never reported usage
    ttft_seconds: float | None
    duration_seconds: float
    gpu_seconds: float  # this attempt's share of the worker's busy time
    cost_nanousd: int
    cost_basis: CostBasis
    user: str  # the request's own `user` field, "" when absent
