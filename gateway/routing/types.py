"""The router's vocabulary: what is asked, what is known of each worker, and the plan that comes out.

No clock, no IO and no randomness live here or anywhere in this package: callers pass them in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from gateway.routing.breaker import Breaker
from gateway.routing.outliers import Standing
from gateway.routing.placement import Shelf
from gateway.routing.prefix import PrefixCache, Prompt
from gateway.routing.rates import BATCH_SLOWDOWN, Kin, Line
from gateway.table import Candidate, Objective, Priority, Route, Tenant, Worker

Task = Literal["generate", "embed", "any"]

Drop = Literal[
    "not_allowed",  # the tenant may not use it
    "down",  # health probes fail or it has not answered yet
    "draining",  # an operator asked it to finish
    "silent",  # owes answers, and nothing has been heard of it for a while
    "ejected",  # fails far more often than the others that serve the same
    "breaker_open",  # fails again and again with this model or adapter
    "adapter_missing",  # the worker does not hold the adapter, and has no room for any
    "adapter_failed",  # it could not load the adapter a while ago
    "adapter_elsewhere",  # it does not hold the adapter, and others are to
    "context_length",  # the prompt does not fit
    "quality",  # below the route's min_quality
    "ttft",  # predicted first token later than the route's or the request's bound
    "price",  # above the request's max_price_usd_per_m
    "quantization",  # not among the request's quantizations
    "not_in_only",  # not among the request's `only`
    "task",  # a pooling worker asked to generate, or the reverse
]


NOT_PROBED: Final = "not probed yet"
UNKNOWN: Final = -1  # what an engine does not say


class Waiting:
    """A prompt before or in prefill. One whose answer comes whole shows no first token: it counts until `due`."""

    __slots__ = ("due", "is_waiting", "uncached_tokens")

    def __init__(self, uncached_tokens: int, due: float) -> None:
        self.uncached_tokens = uncached_tokens
        self.due = due
        self.is_waiting = True  # no longer, once it is through


@dataclass(slots=True, kw_only=True, eq=False)
class WorkerView:
    """What the router knows of one worker now: its configuration, the gateway's own account, and the engine's word.

    The gateway's own account (`inflight`, `pending_tokens`, kept by `account.Place`) is exact and current; what polls
    bring (`waiting`, `running`, `kv_usage`) is as old as `polled_at`, and UNKNOWN where the engine does not say. What
    other gateways have dispatched there (`elsewhere_...`) is as old as their last word. Rates are None until this
    worker's own answers have calibrated them; until then `kin` says how fast those are that are like it. Times are
    seconds on the clock of `Router.plan`.
    """

    worker: Worker
    up: bool = False
    why_down: str = NOT_PROBED
    draining: bool = False
    silent: bool = False
    base_name: str = ""  # the name the engine serves the base model under
    adapters: Mapping[str, str] = field(default_factory=dict[str, str])  # adapter -> the engine's name for it
    shelf: Shelf | None = None  # where the gateway places adapters there itself
    breakers: dict[str, Breaker] = field(default_factory=dict[str, Breaker])  # by engine's model name, once it failed
    standing: Standing = field(default_factory=Standing)
    inflight: int = 0  # requests dispatched and not finished
    pending_tokens: int = 0  # uncached prompt tokens dispatched and not yet at their first token, here or elsewhere
    elsewhere_inflight: int = 0  # requests that other gateways have there
    running: int = UNKNOWN  # requests the engine works on
    waiting: int = UNKNOWN  # requests in the engine's queue
    kv_usage: float = UNKNOWN  # of its KV cache, 0..1
    polled_at: float = -math.inf  # when it was asked for these, in monotonic seconds: they are at least as old
    prefilling: dict[int, Waiting] = field(default_factory=dict[int, Waiting])  # in flight, no first token; in order
    prefill_since: float = 0.0  # when the first of them came to the front
    unseen_tokens: int = 0  # through prefill since then without a sign
    dispatched: int = 0  # attempts ever
    seconds_per_prompt_token: float | None = None  # uncached ones
    first_token_seconds: float = 0.0  # to a first token, beside those
    seconds_per_output_token: float | None = None  # of a request alone
    batch_slowdown: float = BATCH_SLOWDOWN  # what each other in the batch adds to that, as a share of it
    usual_uncached_tokens: float = 0.0  # of the prompts sent there
    tells_cached: bool = False  # its usage has shown cached tokens, so that none means none
    reuse: float = 1.0  # prompt tokens its prefix cache served, for one that was predicted
    prefixes: PrefixCache | None = None
    kin: Kin = field(default_factory=Kin)  # shared with the workers that are like it
    rated_at: float = -math.inf  # when an answer last said how fast it is
    prefill_line: Line | None = None  # over uncached prompt tokens
    decoded_seconds: float = 0.0  # from first tokens to ends, of answers that fade
    decoded_tokens: float = 0.0  # and their tokens
    dispatched_at: float = -math.inf  # the last attempt


class Preferences(NamedTuple):
    """The `routing` object of a request body."""

    optimize: Objective | None = None
    only: frozenset[str] | None = None
    quantizations: frozenset[str] | None = None
    max_price_usd_per_m: float | None = None
    max_ttft_seconds: float | None = None
    priority: Priority | None = None  # a class below the sender's own


NO_PREFERENCES: Final = Preferences()
MANY: Final = 1 << 40  # tokens


class Ask:
    """One request as the router sees it. Token counts are estimates made before the engine has seen the prompt.

    This and what else is made for every request are classes of their own: when compiled, they are made and read in a
    fraction of the time of a named tuple.
    """

    __slots__ = (
        "model",
        "output_tokens",
        "preferences",
        "prompt",
        "prompt_tokens",
        "task",
        "tenant",
        "usual_output_tokens",
    )

    def __init__(
        self,
        model: str,
        tenant: Tenant,
        task: Task,
        prompt_tokens: int,
        output_tokens: int,
        preferences: Preferences = NO_PREFERENCES,
        usual_output_tokens: int = MANY,
        prompt: Prompt | None = None,
    ) -> None:
        self.model = model  # as the client named it
        self.tenant = tenant
        self.task: Task = task
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens  # at most, where the client says so
        self.preferences = preferences
        self.usual_output_tokens = usual_output_tokens  # of such answers, where fewer than `output_tokens`
        self.prompt = prompt  # None where it is shorter than a block, or no text


class Terms:
    """A step's score: what it is made of, in seconds. Lowest wins."""

    __slots__ = (
        "adapter_seconds",
        "decode_seconds",
        "kv_seconds",
        "others_seconds",
        "prefill_seconds",
        "price_seconds",
        "queue_seconds",
    )

    def __init__(
        self,
        queue_seconds: float = 0.0,
        prefill_seconds: float = 0.0,
        others_seconds: float = 0.0,
        adapter_seconds: float = 0.0,
        decode_seconds: float = 0.0,
        kv_seconds: float = 0.0,
        price_seconds: float = 0.0,
    ) -> None:
        self.queue_seconds = queue_seconds  # what waits there for prefill already
        self.prefill_seconds = prefill_seconds  # this prompt, without what is cached there
        self.others_seconds = others_seconds  # that this one's prefill will cost those who come after it
        self.adapter_seconds = adapter_seconds  # until its adapter is loaded
        self.decode_seconds = decode_seconds  # from the first token to the last
        self.kv_seconds = kv_seconds  # a penalty: a full KV cache preempts
        self.price_seconds = price_seconds  # its price, by what the tenant's time is worth

    @property
    def ttft_seconds(self) -> float:
        return self.queue_seconds + self.adapter_seconds + self.prefill_seconds

    @property
    def total_seconds(self) -> float:
        return self.ttft_seconds + self.others_seconds + self.decode_seconds + self.kv_seconds + self.price_seconds

    def values(self) -> list[float]:
        """As in `by_name`."""
        return [
            self.queue_seconds,
            self.prefill_seconds,
            self.others_seconds,
            self.adapter_seconds,
            self.decode_seconds,
            self.kv_seconds,
            self.price_seconds,
        ]

    def by_name(self) -> dict[str, float]:
        return {
            "queue_seconds": self.queue_seconds,
            "prefill_seconds": self.prefill_seconds,
            "others_seconds": self.others_seconds,
            "adapter_seconds": self.adapter_seconds,
            "decode_seconds": self.decode_seconds,
            "kv_seconds": self.kv_seconds,
            "price_seconds": self.price_seconds,
        }


NO_TERMS: Final = Terms()


class Step:
    """One worker to try, and what the router expected of it."""

    __slots__ = (
        "cached_tokens",
        "engine_model",
        "nanousd",
        "prompt",
        "root",
        "seconds",
        "target",
        "terms",
        "ttft_seconds",
        "view",
    )

    def __init__(
        self,
        view: WorkerView,
        target: Candidate,
        engine_model: str,
        seconds: float,
        ttft_seconds: float,
        nanousd: float,
        terms: Terms = NO_TERMS,
        cached_tokens: int = 0,
        prompt: Prompt | None = None,
        root: int = 0,
    ) -> None:
        self.view = view
        self.target = target  # version always set
        self.engine_model = engine_model  # what to put in the body's `model`
        self.seconds = seconds  # predicted time to the last token
        self.ttft_seconds = ttft_seconds  # predicted time to the first token
        self.nanousd = nanousd  # predicted cost
        self.terms = terms
        self.cached_tokens = cached_tokens  # of the prompt, expected in the worker's prefix cache
        self.prompt = prompt  # None where prefixes were not looked at: it may be the only worker
        self.root = root  # of the prompt's prefixes


class Dropped(NamedTuple):
    worker: str
    target: str
    reason: Drop


class Plan:
    """Workers in the order to try them, the route that chose them, and why each other one was left out."""

    __slots__ = ("dropped", "reason", "route", "steps")

    def __init__(self, route: Route, reason: str, steps: tuple[Step, ...], dropped: tuple[Dropped, ...]) -> None:
        self.route = route
        self.reason = reason
        self.steps = steps
        self.dropped = dropped
