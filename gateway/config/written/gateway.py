"""gateway.yaml: how the process runs."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gateway.config.written.base import Digest, Duration, Name, Percent, Span, Written, refuse

_HOST = re.compile(r"[A-Za-z0-9_.:-]{1,253}", re.ASCII)


def _host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise refuse(f"`{text}` is not an address to listen on", "write an IP address or a host name, like 127.0.0.1")
    return text


def _http(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#]+[^\s]*", text):
        raise refuse(f"`{text}` is not an http address", "write for example http://localhost:4318")
    return text


def _location(*schemes: str) -> AfterValidator:
    def check(text: str) -> str:
        if not text.startswith(schemes):
            raise refuse(f"`{text.split(':')[0]}` is no kind of store", f"begin with {' or '.join(schemes)}")
        if text not in ("memory://", "none") and not text.partition("://")[2].strip("/"):
            raise refuse("the location ends after its scheme", "name the host or the file after it")
        return text

    return AfterValidator(check)


_STATE = _location("memory://", "redis://", "rediss://", "redis+cluster://", "rediss+cluster://")
_LEDGER = _location("sqlite:///", "postgresql://", "postgres://", "none")


class Server(Written):
    host: Annotated[str, AfterValidator(_host)] = Field(
        default="127.0.0.1", description="Address to listen on; 0.0.0.0 for every interface", examples=["127.0.0.1"]
    )
    port: int = Field(default=4000, ge=1, le=65535, description="Port to listen on", examples=[4000])
    processes: int = Field(default=1, ge=1, le=256, description="Processes that share the port", examples=[1])
    max_body_mb: int = Field(default=20, ge=1, le=1024, description="Largest request body, in MiB", examples=[20])
    drain_seconds: float = Field(
        default=30,
        ge=0,
        le=3600,
        description="How long running answers may go on after a stop is asked for",
        examples=[30],
    )


class Cache(Written):
    default_ttl: Duration = Field(
        default=600.0, description="How long a cached answer is used where the route does not say", examples=["10m"]
    )
    max_entry_kb: int = Field(
        default=256, ge=1, le=1024 * 1024, description="Largest answer kept, in KiB", examples=[256]
    )
    max_memory_mb: int = Field(
        default=128, ge=1, le=1024 * 1024, description="What the embedded cache may hold in all, in MiB", examples=[128]
    )


class Log(Written):
    format: Literal["json", "text"] = Field(
        default="json", description="One JSON line per request, or text", examples=["json"]
    )
    prompts: Literal["none", "hash", "redacted", "full"] = Field(
        default="none", description="What of a prompt reaches the log", examples=["none"]
    )


class Telemetry(Written):
    otlp_endpoint: Annotated[str, AfterValidator(_http)] | None = Field(
        default=None,
        description="Where OpenTelemetry spans go; null for nowhere",
        examples=["http://localhost:4318"],
    )


def _poll(seconds: float) -> float:
    if not 0.1 <= seconds <= 10:
        raise refuse(f"every {seconds:g} s is no pace to poll at", "write from `100ms` to `10s`; `300ms` suits most")
    return seconds


class Probe(Written):
    every: Duration = Field(default=2.0, description="Time between two probes of a worker", examples=["2s"])
    wait: Duration = Field(default=5.0, description="How long one probe may take", examples=["5s"])
    load: Annotated[Duration, AfterValidator(_poll)] = Field(
        default=0.3, description="Time between two looks at a worker's load", examples=["300ms"]
    )


class Queue(Written):
    length: int = Field(
        default=512,
        ge=0,
        le=100_000,
        description="Requests that may wait in each process until a worker has room",
        examples=[512],
    )
    wait: Duration = Field(default=10.0, description="How long one may wait there", examples=["10s"])


class AdminKey(Written):
    id: Name = Field(description="What logs call this key", examples=["ops"])
    sha256: Digest = Field(description="Digest of the key, from `tollgate keys create`", examples=["5e88…42d8"])


class Audit(Written):
    every: Duration = Field(
        default=3600.0, description="How often the ledger is held against the workers' own counters", examples=["1h"]
    )
    drift: Percent = Field(
        default=0.001, description="Difference in tokens above which it is an alarm", examples=["0.1%"]
    )


class Metering(Written):
    journal: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="Directory of the write-ahead file; left out: beside an SQLite ledger, else var/ledger.journal",
        examples=["var/ledger.journal"],
    )
    journal_max_mb: int = Field(
        default=1024,
        ge=16,
        le=1024 * 1024,
        description="What one process may keep there while the ledger is away, in MiB (3,000 requests each, fewer with "
        "long tags)",
        examples=[1024],
    )
    on_full: Literal["serve", "refuse"] = Field(
        default="serve",
        description="When that is used up: serve, with each row in the log instead, or refuse requests with 503",
        examples=["serve"],
    )
    readings: Duration = Field(default=5.0, description="How often the counters of workers are read", examples=["5s"])
    window: Duration = Field(
        default=60.0, description="Span of time a worker's cost is shared out in", examples=["60s"]
    )
    idle: Literal["own_line", "by_usage", "by_reservation"] = Field(
        default="own_line",
        description="Who pays for a worker's idle time: its own line of the bill, all by what they used, or tenants by "
        "their `reservation`",
        examples=["own_line"],
    )
    audit: Audit = Field(default_factory=Audit, description="The ledger against the engines", examples=["{every: 1h}"])
    retention: Span = Field(
        default=400 * 86_400.0,
        description="How long rows of single attempts are kept; sums by the hour are kept for good",
        examples=["400d"],
    )
    settler: Literal["embedded", "external"] = Field(
        default="embedded",
        description="Who brings journals into the ledger: a process that the gateway starts, or `tollgate settle`",
        examples=["embedded"],
    )


class Decisions(Written):
    keep_mb: int = Field(
        default=32,
        ge=0,
        le=16 * 1024,
        description="What each process keeps of its latest requests for `tollgate explain`, in MiB (2,000 requests "
        "each); 0 keeps nothing",
        examples=[32],
    )
    directory: str | None = Field(
        default=None,
        min_length=1,
        max_length=4096,
        description="Where; left out: beside the journal, and with `ledger: none` nowhere",
        examples=["var/ledger.decisions"],
    )


class Admin(Written):
    keys: list[AdminKey] = Field(
        default=[], max_length=1000, description="Keys of the admin API; with none it is closed", examples=["[]"]
    )


def _directory(text: str) -> str:
    if not text.startswith("/") or ".." in text.split("/") or not text.strip("/") or not text.isprintable():
        raise refuse(f"`{text[:80]}` is no absolute path of a directory", "write for example /srv/adapters")
    return text


Directory = Annotated[str, Field(max_length=1000), AfterValidator(_directory)]


class Adapters(Written):
    directories: list[Directory] = Field(
        default=[],
        max_length=64,
        description="Beneath which `POST /admin/v1/adapters` takes adapters, as the gateway and its workers see them; "
        "with none it takes none",
        examples=["[/srv/adapters]"],
    )


class Gateway(Written):
    """The top-level keys of gateway.yaml."""

    server: Server = Field(default_factory=Server, description="Address, port and size of the process")
    state: Annotated[str, _STATE] = Field(
        default="memory://",
        description="Where limits, the shared cache, the store of keys, who is drained and what adapters were added "
        "live: memory:// (keys.db, drains.json and adapters.json beside the ledger), or redis://host:6379/0 for "
        "several processes",
        examples=["memory://"],
    )
    ledger: Annotated[str, _LEDGER] = Field(
        default="sqlite:///var/ledger.db",
        description="Where the usage ledger lives: sqlite:///FILE, postgresql://… for several replicas, or none",
        examples=["sqlite:///var/ledger.db"],
    )
    metering: Metering = Field(default_factory=Metering, description="How usage is recorded and shared out")
    decisions: Decisions = Field(
        default_factory=Decisions, description="What is remembered of how requests were routed"
    )
    cache: Cache = Field(default_factory=Cache, description="The response cache")
    log: Log = Field(default_factory=Log, description="The request log")
    telemetry: Telemetry = Field(default_factory=Telemetry, description="OpenTelemetry")
    probe: Probe = Field(default_factory=Probe, description="How workers are watched")
    queue: Queue = Field(default_factory=Queue, description="Where requests wait their turn when every worker is full")
    adapters: Adapters = Field(default_factory=Adapters, description="Adapters that are added while the gateway runs")
    admin: Admin = Field(default_factory=Admin, description="Who may use /admin/v1")
