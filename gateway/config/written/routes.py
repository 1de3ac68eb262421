"""routes.yaml: which requests go where."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gateway.config.units import UnitError, parse_duration
from gateway.config.written.base import Asked, Count, Duration, Name, OneOrMany, Percent, Written, refuse

_PERCENTILE = re.compile(r"p(?:[1-9]|[1-9][0-9])", re.ASCII)


def _hedge_after(text: str) -> str:
    if not _PERCENTILE.fullmatch(text):
        try:
            parse_duration(text)
        except UnitError:
            raise refuse(f"`{text}` is no moment to hedge at", "write a percentile like `p95`, or a duration") from None
    return text


class Match(Written):
    model: OneOrMany | None = Field(
        default=None, description="What the client asks for; any of these", examples=["auto"]
    )
    tenant: OneOrMany | None = Field(default=None, description="Who asks; any of these", examples=["[support]"])
    tier: OneOrMany | None = Field(
        default=None, description="The asking tenant's tier; any of these", examples=["[standard]"]
    )
    max_prompt_tokens: Count | None = Field(default=None, description="Only prompts up to this length", examples=[8000])


class SubjectTo(Written):
    ttft_p95: Duration | None = Field(
        default=None, description="Only candidates whose first token comes within this", examples=["800ms"]
    )
    min_quality: float | None = Field(
        default=None, ge=0, le=1, description="Only versions of at least this quality", examples=[0.98]
    )


class Retry(Written):
    attempts: int = Field(default=2, ge=0, le=10, description="Other workers tried after the first", examples=[2])
    budget: Percent = Field(default=0.10, description="Share of the traffic that may be retries", examples=["10%"])


class Hedge(Written):
    after: Annotated[str, AfterValidator(_hedge_after)] = Field(
        default="p95",
        description="When a second worker is asked: a percentile of first tokens, or a duration",
        examples=["p95"],
    )
    at_most: Percent = Field(default=0.05, description="Share of requests that may be hedged", examples=["5%"])


class Timeout(Written):
    connect: Duration = Field(default=2.0, description="To reach the worker", examples=["2s"])
    first_token: Duration = Field(default=60.0, description="To the first token of the answer", examples=["30s"])
    idle: Duration = Field(default=30.0, description="Between two tokens", examples=["30s"])
    total: Duration = Field(default=600.0, description="For the whole answer", examples=["10m"])


class CachePolicy(Written):
    when: Literal["never", "deterministic", "always"] = Field(
        default="deterministic",
        description="Which answers are kept: deterministic is temperature 0 or a seed",
        examples=["never"],
    )
    ttl: Duration | None = Field(
        default=None, description="How long; left out: the gateway's cache.default_ttl", examples=["10m"]
    )


class Route(Written):
    name: Name = Field(description="What logs and headers call it", examples=["cheap-first"])
    match: Match = Field(
        default_factory=Match, description="Which requests it is for; left out: all", examples=["{model: auto}"]
    )
    candidates: list[Asked] = Field(
        min_length=1,
        max_length=1000,
        description="Where they may go: model, model@version, model:adapter or an alias",
        examples=["[chat-8b@int4, chat-8b@fp8]"],
    )
    minimize: Literal["cost", "latency"] = Field(
        default="latency", description="What is preferred among the candidates", examples=["cost"]
    )
    subject_to: SubjectTo = Field(
        default_factory=SubjectTo, description="What a candidate must keep", examples=["{min_quality: 0.98}"]
    )
    fallback: list[Asked] = Field(
        default=[],
        max_length=1000,
        description="Where they go, in this order, when no candidate can answer",
        examples=["[big]"],
    )
    retry: Retry = Field(
        default_factory=Retry, description="When a worker fails before its first byte", examples=["{attempts: 2}"]
    )
    hedge: Hedge | None = Field(
        default=None, description="Ask a second worker when the first is slow", examples=["{after: p95, at_most: 5%}"]
    )
    timeout: Timeout = Field(
        default_factory=Timeout, description="How long each part may take", examples=["{total: 10m}"]
    )
    cache: CachePolicy = Field(
        default_factory=CachePolicy, description="Which answers are kept", examples=["{when: never}"]
    )
    mode: Literal["enforce", "shadow", "observe"] = Field(
        default="enforce", description="Whether it decides, or is only watched", examples=["enforce"]
    )


class Routes(Written):
    """The top-level key of routes.yaml."""

    routes: list[Route] = Field(
        default=[],
        description="First match wins; a request without a match goes to the model it names",
        examples=["[{name: cheap-first, …}]"],
    )
