"""fleet.yaml: what an hour of each GPU costs, and the workers that run on them."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gateway.config.written.base import Asked, Name, Text, Written, refuse

_URL = re.compile(r"(https?|dns\+https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::([0-9]{1,5}))?(/[A-Za-z0-9_./~-]*)?")
_FILE = re.compile(r"file:///[^\s?#]{1,1000}\.(yaml|yml|json)")
_API_KEY = re.compile(r"[\x21-\x7e]{1,4096}")


def _url(text: str) -> str:
    if text.startswith("file:"):
        if not _FILE.fullmatch(text) and _FILE.fullmatch(f"{text}.yaml"):
            raise refuse(
                f"`{text[:200]}` is no file of addresses that can be read, by its extension",
                "write the name of a file that ends in .yaml, .yml or .json",
            )
        if not _FILE.fullmatch(text):
            raise refuse(f"`{text[:200]}` is no file of addresses", "write for example file:///etc/tollgate/chat.yaml")
        return text
    match = _URL.fullmatch(text)
    if match is None:
        raise refuse(f"`{text[:200]}` is not a worker's address", "write for example http://10.0.0.5:8000")
    if match[3] and not 1 <= int(match[3]) <= 65535:
        raise refuse(f"port {match[3]} does not exist", "write a port from 1 to 65535")
    return text


def _api_key(text: str) -> str:
    if not _API_KEY.fullmatch(text):
        raise refuse(
            "the key holds a space, a line break or something else that cannot stand in a header",
            "write it as ${env:NAME} and look for a stray line break at its end",
        )
    return text


class Gpu(Written):
    hourly_usd: float = Field(ge=0, le=1e6, description="What an hour of it costs, in USD", examples=[1.10])
    memory_gb: float | None = Field(default=None, gt=0, le=1e6, description="Its memory, in GB", examples=[48])


class Launch(Written):
    port: int = Field(ge=1, le=65535, description="Port the engine is started on", examples=[8102])
    args: list[Text] = Field(
        default=[], description="Further arguments of the engine", examples=['["--enforce-eager"]']
    )
    env: dict[Text, str] = Field(
        default={}, description="Further environment of the engine", examples=['{OMP_NUM_THREADS: "2"}']
    )


class Price(Written):
    input_usd_per_m: float = Field(ge=0, le=1e6, description="USD per million prompt tokens", examples=[0.50])
    cached_input_usd_per_m: float | None = Field(
        default=None,
        ge=0,
        le=1e6,
        description="The same for tokens the prefix cache served; left out: as input",
        examples=[0.10],
    )
    output_usd_per_m: float = Field(ge=0, le=1e6, description="USD per million generated tokens", examples=[1.50])


class Tls(Written):
    ca: Text = Field(
        description="PEM file of the only authority its certificate may come from, beside this one or absolute; "
        "read when the configuration is",
        examples=["inner-ca.pem"],
    )


class Worker(Written):
    name: Name = Field(description="What logs and headers call it", examples=["chat-fp8-0"])
    url: Annotated[str, AfterValidator(_url)] | None = Field(
        default=None,
        description="Its address; dns+http://HOST:PORT is one worker per address that the name has, file:///PATH.yaml "
        "one per URL listed there; left out with `launch`",
        examples=["http://10.0.0.5:8000"],
    )
    engine: Literal["vllm", "trtllm", "triton", "sglang", "tgi", "openai"] = Field(
        description="What it runs: triton is its OpenAI frontend, openai any compatible endpoint", examples=["vllm"]
    )
    serves: Asked = Field(description="The model@version it answers for", examples=["chat-8b@fp8"])
    serves_as: Text | None = Field(
        default=None,
        description="The name the engine itself gives the model; left out: the engine is asked",
        examples=["chat"],
    )
    gpu: Name | None = Field(default=None, description="The kind of GPU it runs on, from `gpus`", examples=["l40s"])
    gpus: int = Field(default=1, ge=1, le=4096, description="How many of them", examples=[1])
    max_loras: int = Field(default=0, ge=0, le=4096, description="LoRA adapters it holds at once", examples=[8])
    max_inflight: int | None = Field(
        default=None,
        ge=1,
        le=16_384,
        description="Requests it is given at once, the others wait here; left out: as many as come",
        examples=[80],
    )
    price: Price | None = Field(
        default=None,
        description="Token prices, for an endpoint that is not paid by the hour",
        examples=["{input_usd_per_m: 0.50, output_usd_per_m: 1.50}"],
    )
    api_key: Annotated[str, AfterValidator(_api_key)] | None = Field(
        default=None, description="The key the worker asks for", examples=["${env:BURST_KEY}"]
    )
    tls: Tls | None = Field(
        default=None,
        description="Whom to trust for an https worker; left out: the system's authorities",
        examples=["{ca: inner-ca.pem}"],
    )
    launch: Launch | None = Field(
        default=None, description="How `tollgate up` starts it on this machine", examples=["{port: 8102}"]
    )


class Fleet(Written):
    """The top-level keys of fleet.yaml."""

    gpus: dict[Name, Gpu] = Field(
        default={}, description="Kinds of GPU and their price", examples=["{l40s: {hourly_usd: 1.10, memory_gb: 48}}"]
    )
    workers: list[Worker] = Field(
        default=[], description="The engines behind the gateway", examples=["[{name: chat-fp8-0, …}]"]
    )
