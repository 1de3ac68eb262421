"""How much of a limit and of a budget to hold for a request before it is known what it uses.

Tokens: the prompt, and what nine of ten answers of that model to that tenant stay within, if not less was asked for.
Money of a budget that refuses: the most it can cost, for such a budget is never to be overrun. Of workers priced by
their time nobody knows that beforehand; for them it is what the router expects and some time ahead, and the reservation
grows while the request runs (`Lease.extend`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import orjson

from gateway.ledger.pricing import SECOND, gpu_cost, token_cost
from gateway.protocol.request import MEDIA_BYTES, Request
from gateway.routing.types import Step
from gateway.table import Model, Price

AHEAD_NS: Final = SECOND // 4  # of a worker's time: what is reserved beyond what a request is known to have cost

FIRST_GUESS_TOKENS: Final = 256.0  # of an answer, until some are known
QUANTILE: Final = 0.9
GAIN: Final = 0.05  # by how much of itself an estimate moves at most with one answer

TEMPLATE_TOKENS: Final = 32  # what a chat template puts around a conversation
TOKENS_PER_STRING: Final = 4  # and around each of its parts

_NOT_READ: Final = frozenset(("model", "stream", "stream_options", "user", "metadata", "routing", "max_tokens", "n"))
_SCHEMAS: Final = frozenset(("tools", "functions", "response_format", "chat_template_kwargs"))
_CALLED_WITH: Final = frozenset(("input", "arguments"))  # of a tool, in a conversation
_PAIRED: Final = {"rerank": ("query", "documents"), "score": ("text_1", "text_2")}
_MOST_OUTPUT: Final = {
    "chat.completions": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "messages": ("max_tokens",),
}


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
        known = None if of_tenant is None else of_tenant.get(model)
        return int(FIRST_GUESS_TOKENS if known is None else known)


def tokens(request: Request, expected: int) -> int:
    """`expected` is the length of an answer by `Lengths`."""
    if request.endpoint.task != "generate":
        return request.estimated_prompt_tokens
    most = request.max_output_tokens
    output = expected if most is None or most > expected else most
    return request.estimated_prompt_tokens + output * answers(request)


def most_cost(request: Request, steps: Sequence[Step], models: Mapping[str, Model]) -> int:
    """Nano-USD that an attempt on any of these workers can cost, when each answer is as long as its model can make
    it."""
    most = prompt = -1
    cost = 0
    for step in steps:
        worker = step.view.worker
        price = worker.price
        if price is not None:
            if prompt < 0:
                prompt, most = most_prompt_tokens(request), _most_output(request)
            output = models[step.target.model].context
            if 0 <= most < output:
                output = most
            cost = max(cost, _dearest(price, prompt, output * answers(request)))
        elif worker.hourly:
            cost = max(cost, int(step.nanousd) + gpu_cost(AHEAD_NS, worker.hourly))
    return cost


def answers(request: Request) -> int:
    """How many are generated: each prompt of a list is answered, and of some only the best is shown."""
    fields = request.fields
    if fields is None or request.endpoint.task != "generate":
        return 1
    each = _larger(fields.get("best_of"), _larger(fields.get("n"), request.choices))
    prompt = fields.get("prompt")
    if type(prompt) is list:
        prompts = cast("list[Any]", prompt)
        if prompts and type(prompts[0]) is not int:  # else one prompt, by its tokens' numbers
            return each * len(prompts)
    return each


def _larger(value: Any, known: int) -> int:
    return value if type(value) is int and value > known else known


def _most_output(request: Request) -> int:
    """Tokens of one answer by the endpoint's own parameters, for an engine passes over all others; -1 when none says.
    Of two the larger, for engines differ in which they prefer."""
    most = -1
    fields = request.fields
    if request.endpoint.task != "generate":
        return 0
    if fields is not None:
        for name in _MOST_OUTPUT.get(request.endpoint.name, ()):
            value = fields.get(name)
            if type(value) is int and value > most and value > 0:
                most = value
    return most


def _dearest(price: Price, prompt: int, output: int) -> int:
    return max(token_cost(price, prompt, 0, output), token_cost(price, prompt, prompt, output))


def most_prompt_tokens(request: Request) -> int:
    """No token is shorter than a byte of UTF-8, but a template puts some around what is written."""
    fields = request.fields
    if fields is None:
        return request.prompt_bytes
    total = TEMPLATE_TOKENS
    for name in fields:
        if name in _SCHEMAS:
            total += _of_json(fields[name])
        elif name not in _NOT_READ:
            total += _of_text(fields[name])
    one, many = _PAIRED.get(request.endpoint.name, ("", ""))
    if one:  # what is compared with each of several is read with each of them
        repeated, others = fields.get(one), fields.get(many)
        if type(repeated) is str and type(others) is list:
            total += _of_text(repeated) * len(cast("list[Any]", others))
    return total


def _of_text(written: Any) -> int:
    total = 0
    pending: list[Any] = [written]
    while pending:
        value: Any = pending.pop()
        if isinstance(value, str):
            size = len(value) if value.isascii() else len(value.encode(errors="surrogatepass"))
            if size > MEDIA_BYTES and value.startswith("data:"):
                size = MEDIA_BYTES
            total += size + TOKENS_PER_STRING
        elif isinstance(value, dict):
            entries = cast("dict[str, Any]", value)
            for name in entries:
                if name in _CALLED_WITH and type(entries[name]) is dict:
                    total += _of_json(entries[name])
                else:
                    pending.append(entries[name])
        elif isinstance(value, list):
            pending.extend(cast("list[Any]", value))
        else:
            total += 1  # a token by its number, as completions take them
    return total


def _of_json(value: Any) -> int:
    """What a template writes out as JSON, with the white space it may put after each mark."""
    written = orjson.dumps(value)
    marks = 0
    for mark in (b",", b":", b"{", b"[", b"}", b"]"):
        marks += written.count(mark)
    return len(written) + marks + TOKENS_PER_STRING
