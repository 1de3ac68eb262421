"""Predictions for one request on one worker, in seconds and nano-USD. Lowest wins; nothing is scaled to 0..1.

Rates are the worker's own, measured from its answers; until it has given any, a prior that is the same for all lets
the gateway's account of what is in flight decide.
"""

from __future__ import annotations

from gateway.routing.types import Ask, WorkerView
from gateway.table import Version

PRIOR_SECONDS_PER_PROMPT_TOKEN = 1 / 5_500
PRIOR_SECONDS_PER_OUTPUT_TOKEN = 0.02
# What one more request in the batch adds to the time between tokens: a mild slope, so that of two equal workers the
# emptier one wins while batching still counts as cheap.
BATCH_SLOWDOWN = 0.05
NANO = 1_000_000_000


def ttft_seconds(view: WorkerView, ask: Ask) -> float:
    """Predicted time to the first token: what is already waiting for prefill there, then this prompt."""
    rate = view.seconds_per_prompt_token
    return (view.pending_tokens + ask.prompt_tokens) * (PRIOR_SECONDS_PER_PROMPT_TOKEN if rate is None else rate)


def decode_seconds(view: WorkerView, ask: Ask) -> float:
    """Predicted time from the first token to the last, given who shares the batch."""
    rate = view.seconds_per_output_token
    if rate is None:
        rate = PRIOR_SECONDS_PER_OUTPUT_TOKEN
    return ask.output_tokens * rate * (1 + BATCH_SLOWDOWN * view.inflight)


def nanousd(view: WorkerView, ask: Ask) -> float:
    """Predicted cost: the worker's token prices where it has them, otherwise its hourly rate over the seconds this
    request would need alone."""
    worker = view.worker
    if worker.price is not None:
        return (ask.prompt_tokens * worker.price.input + ask.output_tokens * worker.price.output) / 1_000_000
    prompt_rate = view.seconds_per_prompt_token
    output_rate = view.seconds_per_output_token
    seconds = ask.prompt_tokens * (PRIOR_SECONDS_PER_PROMPT_TOKEN if prompt_rate is None else prompt_rate)
    seconds += ask.output_tokens * (PRIOR_SECONDS_PER_OUTPUT_TOKEN if output_rate is None else output_rate)
    return worker.hourly / 3600 * seconds


def usd_per_million_tokens(view: WorkerView, ask: Ask) -> float:
    """The predicted price of this request per million of its tokens, which a client may bound."""
    return nanousd(view, ask) / NANO / max(1, ask.prompt_tokens + ask.output_tokens) * 1_000_000


def quality(version: Version) -> float:
    """A version's measured quality; one that was never measured counts as the unquantized reference only if it is."""
    if version.quality is not None:
        return version.quality
    return 1.0 if version.quantization == "none" else 0.0
