"""tenants.yaml: who may call, with which keys, how much, and at what share."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gateway.config.written.base import Asked, Digest, Limits, ModelName, Moment, Name, Percent, Written

Priority = Literal["interactive", "standard", "batch"]
EndpointName = Literal[
    "chat.completions",
    "completions",
    "responses",
    "messages",
    "embeddings",
    "rerank",
    "score",
    "audio.transcriptions",
    "audio.translations",
    "tokenize",
    "detokenize",
]


class TenantLimits(Limits):
    models: dict[ModelName, Limits] = Field(
        default={},
        description="Further limits on what goes to one model",
        examples=["{big: {rpm: 60, concurrency: 4}}"],
    )


class Key(Written):
    id: Name = Field(description="What logs call this key", examples=["prod"])
    sha256: Digest = Field(description="Digest of the key, from `tollgate keys create`", examples=["5e88…42d8"])
    models: list[Asked] | None = Field(
        default=None, description="What it may ask for; left out: all its tenant may", examples=["[chat-8b]"]
    )
    endpoints: list[EndpointName] | None = Field(
        default=None, description="What it may call; left out: everything", examples=["[chat.completions, embeddings]"]
    )
    expires: Moment | None = Field(
        default=None, description="When it ends: a day or a time, in UTC, quoted", examples=['"2027-01-31"']
    )
    limits: Limits = Field(
        default_factory=Limits, description="How much of its tenant's limits it may use", examples=["{rpm: 60}"]
    )
    priority: Priority | None = Field(
        default=None, description="Its class when workers are busy; left out: its tenant's", examples=["batch"]
    )


class Budget(Written):
    usd: float = Field(gt=0, le=9e6, description="What may be spent, in USD", examples=[500])
    per: Literal["day", "month", "total"] = Field(default="month", description="In which time", examples=["month"])
    on_exceed: Literal["reject", "warn"] = Field(
        default="reject", description="What happens after", examples=["reject"]
    )


class Tenant(Written):
    keys: list[Key] = Field(
        default=[],
        max_length=1000,
        description="Its API keys, known by their digests",
        examples=["[{id: prod, sha256: 5e88…42d8}]"],
    )
    models: list[Asked] | None = Field(
        default=None,
        description="What it may ask for; left out: everything without a tenant list",
        examples=['[chat-8b, "chat-8b:support", auto]'],
    )
    limits: TenantLimits = Field(
        default_factory=TenantLimits, description="How much at a time", examples=["{rpm: 600}"]
    )
    budget: Budget | None = Field(
        default=None, description="How much in all; left out: no limit", examples=["{usd: 500, per: month}"]
    )
    weight: float = Field(
        default=1.0, gt=0, le=1e6, description="Its share when workers are busy, against the others'", examples=[2]
    )
    priority: Priority = Field(
        default="standard",
        description="Its class when workers are busy: interactive before standard before batch",
        examples=["interactive"],
    )
    reservation: Percent = Field(
        default=0.0,
        description="Its part of every worker's idle time, where `metering: {idle: by_reservation}`",
        examples=["25%"],
    )
    value_of_time_usd_per_hour: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        description="What an hour less of waiting is worth to it: `minimize: latency` then weighs prices too",
        examples=[20],
    )
    tier: Name = Field(default="standard", description="A name routes can match", examples=["standard"])


class Tenants(Written):
    """The top-level key of tenants.yaml."""

    tenants: dict[Name, Tenant] = Field(default={}, description="Everyone who may call", examples=["{support: …}"])
