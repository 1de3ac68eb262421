"""tenants.yaml: who may call, with which keys, how much, and at what share."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gateway.config.written.base import Asked, Count, Digest, Name, Written


class Key(Written):
    id: Name = Field(description="What logs call this key", examples=["prod"])
    sha256: Digest = Field(description="Digest of the key, from `tollgate keys create`", examples=["5e88…42d8"])


class Limits(Written):
    rpm: Count | None = Field(default=None, description="Requests per minute; left out: no limit", examples=[600])
    tpm: Count | None = Field(default=None, description="Tokens per minute; left out: no limit", examples=[200000])
    concurrency: Count | None = Field(default=None, description="Requests at once; left out: no limit", examples=[32])


class Budget(Written):
    usd: float = Field(gt=0, le=1e9, description="What may be spent, in USD", examples=[500])
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
    limits: Limits = Field(default_factory=Limits, description="How much at a time", examples=["{rpm: 600}"])
    budget: Budget | None = Field(
        default=None, description="How much in all; left out: no limit", examples=["{usd: 500, per: month}"]
    )
    weight: float = Field(
        default=1.0, gt=0, le=1e6, description="Its share when workers are busy, against the others'", examples=[2]
    )
    tier: Name = Field(default="standard", description="A name routes can match", examples=["standard"])


class Tenants(Written):
    """The top-level key of tenants.yaml."""

    tenants: dict[Name, Tenant] = Field(default={}, description="Everyone who may call", examples=["{support: …}"])
