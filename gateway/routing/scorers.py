"""Predictions for one request on one worker, in seconds and nano-USD. Lowest wins; nothing is scaled to 0..1.

A worker's score is a sum of seconds (`terms`): what waits there for prefill, its own prompt's prefill without what the
worker's prefix cache holds, the same at least once more for what it costs those who come after it, the load of its
adapter, its output, a penalty for a full KV cache, and its price by what the tenant's time is worth.

Rates are the worker's own, measured from its answers; until it has given any, those of the workers like it or, where
none has, a prior that is the same for all and lets the gateway's account of what is in flight decide.
"""

from __future__ import annotations

from typing import Final

from gateway.routing.account import pending_tokens, prompt_rate
from gateway.routing.types import (
    Ask,
    Terms,
    WorkerView,
)
from gateway.table import Version

OTHERS: Final = 1.0  # what a second of prefill costs those who come after, in seconds
OTHERS_EACH: Final = 0.3  # and more for each prompt that waits: the longer the line, the more come before it has ended
ALIKE: Final = 2.5  # times: by less, the rates of kin differ for their load
KV_SECONDS: Final = 0.15  # of penalty at half a KV cache, growing without bound as it fills
FULLEST: Final = 0.99  # of a KV cache, for the penalty to stay finite
STALE_SECONDS: Final = 2.0  # a poll older than this says nothing
NANO: Final = 1_000_000_000


def terms(
    view: WorkerView,
    ask: Ask,
    cached_tokens: int,
    nanousd: float,
    now: float,
    adapter_load_seconds: float = 0.0,
) -> Terms:
    """The score of `ask` there. `cached_tokens` of its prompt are expected in the worker's prefix cache, `nanousd` is
    what it would cost, and `adapter_load_seconds` pass until its adapter is there."""
    prefill = prefill_seconds(view, ask.prompt_tokens - cached_tokens)
    return Terms(
        queue_seconds(view, now),
        prefill + view.first_token_seconds,
        others_weight(view) * prefill,
        adapter_load_seconds,
        decode_seconds(view, ask, now),
        kv_seconds(view, now),
        price_seconds(nanousd, ask.tenant.value_of_time),
    )


def score_seconds(view: WorkerView, ask: Ask, cached_tokens: int, nanousd: float, now: float) -> float:
    """The sum of `terms`, for a worker of which no more may be wanted."""
    return (
        queue_seconds(view, now)
        + (1.0 + others_weight(view)) * prefill_seconds(view, ask.prompt_tokens - cached_tokens)
        + view.first_token_seconds
        + decode_seconds(view, ask, now)
        + kv_seconds(view, now)
        + price_seconds(nanousd, ask.tenant.value_of_time)
    )


def ttft_seconds(view: WorkerView, ask: Ask, cached_tokens: int, now: float) -> float:
    """Predicted time to the first token."""
    own = prefill_seconds(view, ask.prompt_tokens - cached_tokens)
    return queue_seconds(view, now) + own + view.first_token_seconds


def queue_seconds(view: WorkerView, now: float) -> float:
    """Until the worker comes to prompts sent now: what this gateway and others have sent there, by their accounts, and
    what its queue holds beyond those."""
    tokens = pending_tokens(view, now)
    if view.waiting > 0 and now - view.polled_at <= STALE_SECONDS:
        strangers = view.waiting - len(view.prefilling)
        if strangers > 0:
            tokens += strangers * view.usual_uncached_tokens
    return tokens * prompt_rate(view)


def others_weight(view: WorkerView) -> float:
    """Seconds that a second of prefill there costs those who come after."""
    return OTHERS + OTHERS_EACH * len(view.prefilling)


def prefill_seconds(view: WorkerView, uncached_tokens: int) -> float:
    return max(1, uncached_tokens) * prompt_rate(view)


def decode_seconds(view: WorkerView, ask: Ask, now: float) -> float:
    """Predicted time from the first token to the last, given who shares the batch."""
    output = ask.output_tokens
    if ask.usual_output_tokens < output:
        output = ask.usual_output_tokens
    others = view.inflight + view.elsewhere_inflight
    if now - view.polled_at <= STALE_SECONDS:
        others = max(others, view.running + view.waiting)
    return output * _output_rate(view) * (1.0 + view.batch_slowdown * others)


def kv_seconds(view: WorkerView, now: float) -> float:
    """A penalty: who fills the cache up has others preempted and computed again."""
    used = view.kv_usage
    if used <= 0.0 or now - view.polled_at > STALE_SECONDS:
        return 0.0
    used = min(used, FULLEST)
    return KV_SECONDS * used / (1.0 - used)


def price_seconds(nanousd: float, value_of_time: float | None) -> float:
    """What the price is worth in seconds, where the tenant says what a second is, in nano-USD."""
    return 0.0 if value_of_time is None else nanousd / value_of_time


def nanousd(view: WorkerView, ask: Ask, cached_tokens: int = 0) -> float:
    """Predicted cost: the worker's token prices where it has them, otherwise its hourly rate over the seconds this
    request would need alone."""
    worker = view.worker
    prompt, output = ask.prompt_tokens - cached_tokens, ask.output_tokens
    price = worker.price
    if price is not None:
        millionths = prompt * price.input + cached_tokens * price.cached_input + output * price.output
        return millionths / 1_000_000
    hourly = worker.hourly
    if not hourly:
        return 0.0
    return hourly / 3600 * (prompt * prompt_rate(view) + output * _output_rate(view))


def usd_per_million_tokens(nanousd: float, ask: Ask) -> float:
    """The predicted price of this request per million of its tokens, which a client may bound."""
    return nanousd / NANO / max(1, ask.prompt_tokens + ask.output_tokens) * 1_000_000


def quality(version: Version) -> float:
    """A version's measured quality; one that was never measured counts as the unquantized reference only if it is."""
    if version.quality is not None:
        return version.quality
    return 1.0 if version.quantization == "none" else 0.0


def _output_rate(view: WorkerView) -> float:
    own, usual = view.seconds_per_output_token, view.kin.seconds_per_output_token
    if own is None or (own <= ALIKE * usual and usual <= ALIKE * own):
        return usual
    return own
