"""The router's vocabulary: what is asked, what is known of each worker, and the plan that comes out.

No clock, no IO and no randomness live here or anywhere in this package: callers pass them in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from gateway.routing.breaker import Breaker
from gateway.routing.outliers import Standing
from gateway.table import Candidate, Objective, Priority, Route, Tenant, Worker

Task = Literal["generate", "embed", "any"]

Drop = Literal[
    "not_allowed",  # the tenant may not use it
    "down",  # health probes fail or it has not answered yet
    "draining",  # an operator asked it to finish
    "silent",  # owes answers, and nothing has been heard of it for a while
    "ejected",  # fails far more often than the others that serve the same
    "breaker_open",  # fails again and again with this model or adapter
    "adapter_missing",  # the worker does not hold the adapter
    "context_length",  # the prompt does not fit
    "quality",  # below the route's min_quality
    "ttft",  # predicted first token later than the route's or the request's bound
    "price",  # above the request's max_price_usd_per_m
    "quantization",  # not among the request's quantizations
    "not_in_only",  # not among the request's `only`
    "task",  # a pooling worker asked to generate, or the reverse
]


NOT_PROBED = "not probed yet"
UNKNOWN = -1  # what an engine does not say


@dataclass(slots=True, kw_only=True, eq=False)
class WorkerView:
    """What the router knows of one worker now: its configuration, the gateway's own account, and the engine's word.

    The gateway's own account (`inflight`, `pending_tokens`, kept by `account.Place`) is exact and current; what polls
    bring (`waiting`, `running`, `kv_usage`) is as old as `polled_at`, and UNKNOWN where the engine does not say. What
    other gateways have dispatched there (`elsewhere_...`) is as old as their last word. Rates are None until this
    worker's own answers have calibrated them. Times are seconds on the clock of `Router.plan`.
    """

    worker: Worker
    up: bool = False
    why_down: str = NOT_PROBED
    draining: bool = False
    silent: bool = False
    base_name: str = ""  # the name the engine serves the base model under
    adapters: Mapping[str, str] = field(default_factory=dict[str, str])  # adapter -> the engine's name for it
    breakers: dict[str, Breaker] = field(default_factory=dict[str, Breaker])  # by engine's model name, once it failed
    standing: Standing = field(default_factory=Standing)
    inflight: int = 0  # requests dispatched and not finished
    pending_tokens: int = 0  # uncached prompt tokens dispatched and not yet at their first token
    elsewhere_inflight: int = 0  # requests that other gateways have there
    elsewhere_pending_tokens: int = 0  # and their uncached prompt tokens not yet at the first token
    running: int = UNKNOWN  # requests the engine works on
    waiting: int = UNKNOWN  # requests in the engine's queue
    kv_usage: float = UNKNOWN  # of its KV cache, 0..1
    polled_at: float = -math.inf  # when it was asked for these, in monotonic seconds: they are at least as old
    seconds_per_prompt_token: float | None = None
    seconds_per_output_token: float | None = None


class Preferences(NamedTuple):
    """The `routing` object of a request body."""

    optimize: Objective | None = None
    only: frozenset[str] | None = None
    quantizations: frozenset[str] | None = None
    max_price_usd_per_m: float | None = None
    max_ttft_seconds: float | None = None
    priority: Priority | None = None  # a class below the sender's own


NO_PREFERENCES = Preferences()


class Ask(NamedTuple):
    """One request as the router sees it. Token counts are estimates made before the engine has seen the prompt."""

    model: str  # as the client named it
    tenant: Tenant
    task: Task
    prompt_tokens: int
    output_tokens: int
    preferences: Preferences = NO_PREFERENCES


class Step(NamedTuple):
    """One worker to try, and what the router expected of it."""

    view: WorkerView
    target: Candidate  # version always set
    engine_model: str  # what to put in the body's `model`
    seconds: float  # predicted time to the last token
    ttft_seconds: float  # predicted time to the first token
    nanousd: float  # predicted cost


class Dropped(NamedTuple):
    worker: str
    target: str
    reason: Drop


class Plan(NamedTuple):
    """Workers in the order to try them, the route that chose them, and why each other one was left out."""

    route: Route
    reason: str
    steps: tuple[Step, ...]
    dropped: tuple[Dropped, ...]
