"""How much of a limit and of a budget to hold for a request before it is known what it uses.

Tokens: the prompt, and what nine of ten answers of that model to that tenant stay within, if not less was asked for.
Money of a budget that refuses: the most it can cost, for such a budget is never to be overrun. Of workers priced by
their time nobody knows that beforehand; for them it is what the router expects and some time ahead, and the reservation
grows while the request runs (`Lease.extend`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from gateway.ledger.pricing import SECOND, gpu_cost, token_cost
from gateway.protocol.request import MEDIA_BYTES, Request
from gateway.routing.types import Step
from gateway.table import Price

AHEAD_NS = SECOND // 4  # of a worker's time: what is reserved beyond what a request is known to have cost

FIRST_GUESS_TOKENS = 256.0  # of an answer, until some are known
QUANTILE = 0.9
GAIN = 0.05  # by how much of itself an estimate moves at most with one answer

TEMPLATE_TOKENS = 32  # what a chat template puts around a conversation
TOKENS_PER_STRING = 4  # and around each of its parts

_NOT_READ = frozenset(("model", "stream", "stream_options", "user", "metadata", "routing", "max_tokens", "n"))
_SCHEMAS = ("tools", "functions", "response_format")


class Lengths:
    """The 0.9 quantile of the length of answers, of each tenant and model, followed one answer at a time.

    Robbins and Monro's stochastic approximation: up by `QUANTILE`, down by the rest, so that it rests where nine of ten
    are below. Bounded by the number of tenants and models, which come from the configuration.
    """

    def __init__(self) -> None:
        self._quantiles: dict[str, dict[str, float]] = {}

    def observe(self, tenant: str, model: str, tokens: int) -> None:
        of_tenant = self._quantiles.get(tenant)
        if of_tenant is None:
            of_tenant = self._quantiles[tenant] = {}
        quantile = of_tenant.get(model, FIRST_GUESS_TOKENS)
        step = GAIN * (quantile if quantile > 16.0 else 16.0)
        quantile += step * (QUANTILE if tokens > quantile else QUANTILE - 1.0)
        of_tenant[model] = quantile if quantile > 1.0 else 1.0

    def expected(self, tenant: str, model: str) -> int:
        of_tenant = self._quantiles.get(tenant)
        return int(FIRST_GUESS_TOKENS if of_tenant is None else of_tenant.get(model, FIRST_GUESS_TOKENS))


def tokens(request: Request, expected: int) -> int:
    """`expected` is the length of an answer by `Lengths`."""
    if request.endpoint.task != "generate":
        return request.estimated_prompt_tokens
    most = request.max_output_tokens
    output = expected if most is None or most > expected else most
    return request.estimated_prompt_tokens + output * request.choices


def most_cost(request: Request, steps: Sequence[Step], context: int) -> int:
    """Nano-USD that an attempt on any of these workers can cost, all of `context` tokens at most."""
    output = 0
    if request.endpoint.task == "generate":
        most = request.max_output_tokens
        output = (context if most is None or most > context else most) * request.choices
    prompt = -1
    cost = 0
    for step in steps:
        worker = step.view.worker
        price = worker.price
        if price is not None:
            if prompt < 0:
                prompt = most_prompt_tokens(request)
            cost = max(cost, _dearest(price, prompt, output))
        elif worker.hourly:
            cost = max(cost, int(step.nanousd) + gpu_cost(AHEAD_NS, worker.hourly))
    return cost


def _dearest(price: Price, prompt: int, output: int) -> int:
    return max(token_cost(price, prompt, 0, output), token_cost(price, prompt, prompt, output))


def most_prompt_tokens(request: Request) -> int:
    """No token is shorter than a byte of UTF-8, but a template puts some around what is written."""
    if request.fields is None:
        return request.prompt_bytes
    fields = request.fields
    total = TEMPLATE_TOKENS
    pending: list[Any] = [fields[name] for name in fields if name not in _NOT_READ]
    for name in _SCHEMAS:
        total += _names_in(fields.get(name))
    while pending:
        value: Any = pending.pop()
        if isinstance(value, str):
            size = len(value) if value.isascii() else len(value.encode(errors="surrogatepass"))
            if size > MEDIA_BYTES and value.startswith("data:"):
                size = MEDIA_BYTES
            total += size + TOKENS_PER_STRING
        elif isinstance(value, dict):
            pending.extend(cast("dict[str, Any]", value).values())
        elif isinstance(value, list):
            pending.extend(cast("list[Any]", value))
        else:
            total += 1  # a token by its number, as completions take them
    return total


def _names_in(value: Any) -> int:
    """The tokens of a schema's own keys, which a template writes out too."""
    total = 0
    pending: list[Any] = [value]
    while pending:
        one: Any = pending.pop()
        if isinstance(one, dict):
            entries = cast("dict[str, Any]", one)
            for name in entries:
                total += len(name) * 4 + TOKENS_PER_STRING  # at most four bytes a character
            pending.extend(entries.values())
        elif isinstance(one, list):
            pending.extend(cast("list[Any]", one))
    return total
