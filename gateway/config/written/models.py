"""models.yaml: base models, their versions, the adapters on them, and other names for them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from gateway.config.written.base import Asked, Count, Limits, ModelName, Name, Text, Written, matching, refuse
from gateway.config.written.fleet import Price

Share = Annotated[int, Field(ge=0, le=100)]
ArtifactDigest = Annotated[
    str,
    matching(
        "sha256:[0-9a-f]{64}",
        "is not the digest of an artifact",
        "write `sha256:` and its 64 lower-case hex digits; `tollgate-worker register` does",
    ),
    WithJsonSchema({"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}),
]
DriverVersion = Annotated[
    str,
    matching(
        r"[0-9]{1,5}(\.[0-9]{1,5}){0,3}", "is not a driver version", 'write numbers and dots, in quotes: "580.65"'
    ),
    WithJsonSchema({"type": "string", "pattern": r"^\d{1,5}(\.\d{1,5}){0,3}$"}),
]


def _major_minor(value: float) -> float:
    if value != round(value, 1):
        raise refuse(f"{value} is not a compute capability", "write major and minor as NVIDIA does, `8.9`")
    return value


class Requires(Written):
    compute_capability: Annotated[float, AfterValidator(_major_minor)] | None = Field(
        default=None, ge=1, lt=100, description="Least compute capability of a GPU worker's GPUs", examples=[8.9]
    )
    driver: DriverVersion | None = Field(
        default=None, description="Least NVIDIA driver of a GPU worker, in quotes", examples=['"580.65"']
    )
    cpu: bool = Field(default=True, description="Whether a CPU worker can run it", examples=["false"])
    cpu_flags: list[Name] = Field(
        default=[],
        description="What the processor of a CPU worker must have, as /proc/cpuinfo names it",
        examples=["[avx512f, amx_int8]"],
    )
    memory_gb: float | None = Field(
        default=None,
        gt=0,
        description="Least memory for the weights, of all its GPUs or of the machine, in GB",
        examples=[14.2],
    )


class Version(Written):
    artifact: Text | None = Field(default=None, description="Where the weights lie", examples=["registry/chat-8b/fp8"])
    quantization: Text = Field(default="none", description="How the weights are quantized", examples=["fp8"])
    quality: float | None = Field(
        default=None, ge=0, le=1, description="Measured quality against the unquantized model, 0 to 1", examples=[0.995]
    )
    digest: ArtifactDigest | None = Field(
        default=None,
        description="What `artifact` must hold for a worker to be started on it; left out: anything",
        examples=["sha256:…"],
    )
    requires: Requires = Field(
        default_factory=Requires,
        description="What the machine must have for a worker to be started on it",
        examples=["{compute_capability: 8.9}"],
    )


class Adapter(Written):
    path: Text = Field(description="Where the LoRA weights lie", examples=["adapters/support-v3"])
    tenants: list[Name] | None = Field(
        default=None, min_length=1, description="Who may use it; left out: everyone", examples=["[support]"]
    )
    version: Name | None = Field(
        default=None,
        description="Another one is loaded anew; left out: a digest of the path and, where the gateway sees them, the "
        "files",
        examples=["v3"],
    )
    digest: ArtifactDigest | None = Field(
        default=None,
        description="What `path` must hold for a worker to be started with it; left out: anything",
        examples=["sha256:…"],
    )


class Model(Written):
    context: Count = Field(description="Longest prompt plus answer, in tokens", examples=[8192])
    task: Literal["generate", "embed"] = Field(
        default="generate", description="Whether it writes text or embeds it", examples=["generate"]
    )
    versions: dict[Name, Version] = Field(
        min_length=1, description="What is served of it, by name", examples=["{fp8: {quantization: fp8}}"]
    )
    traffic: dict[Name, Share] = Field(
        default={},
        description="Percent of requests each version takes, 100 in all; left out: any version",
        examples=["{fp8: 100}"],
    )
    limits: Limits = Field(
        default_factory=Limits, description="How much of it all tenants have together", examples=["{rpm: 3000}"]
    )
    adapters: dict[Name, Adapter] = Field(
        default={},
        description="LoRA adapters, asked for as model:adapter",
        examples=["{support: {path: adapters/support-v3}}"],
    )


class Models(Written):
    """The top-level keys of models.yaml."""

    models: dict[ModelName, Model] = Field(
        default={}, description="Base models by the name clients ask for", examples=["{chat-8b: …}"]
    )
    aliases: dict[Asked, Asked] = Field(
        default={},
        description="Other names: for a model, model@version, model:adapter or another alias",
        examples=["{gpt-4o-mini: chat-8b}"],
    )
    prices: dict[Asked, Price] = Field(
        default={},
        description="A price list by model, model@version or model:adapter, that `tollgate report --prices` shows "
        "beside the bill",
        examples=["{chat-8b: {input_usd_per_m: 0.20, output_usd_per_m: 0.60}}"],
    )
