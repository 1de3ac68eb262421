"""The frozen runtime configuration: what the written YAML compiles to.

Everything that serves a request reads these types and nothing else, so a reload is one reference swap and a request
keeps the table it started with. Money is integer nano-USD, durations are seconds, sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

Engine = Literal["vllm", "trtllm", "triton", "sglang", "tgi", "openai"]
Objective = Literal["cost", "latency", "quality"]
CacheWhen = Literal["never", "deterministic", "always"]
Priority = Literal["interactive", "standard", "batch"]
PRIORITIES: tuple[Priority, ...] = ("interactive", "standard", "batch")  # who goes first when workers are full


@dataclass(frozen=True, slots=True)
class Price:
    """Token prices in nano-USD per million tokens (0.50 USD per million is 500_000_000)."""

    input: int
    cached_input: int
    output: int


@dataclass(frozen=True, slots=True)
class Gpu:
    """A kind of accelerator and what an hour of it costs, in nano-USD."""

    name: str
    hourly: int
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class Launch:
    """How `tollgate up` starts a worker that this machine runs."""

    port: int
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Worker:
    """One engine process that answers one `model@version`.

    `serves_as` is the name the engine itself knows the base model by; None means "ask the engine's /v1/models".
    """

    name: str
    url: str
    engine: Engine
    model: str
    version: str
    gpu: Gpu | None
    gpus: int
    max_loras: int
    price: Price | None
    api_key: str | None
    launch: Launch | None
    serves_as: str | None
    max_inflight: int | None = None  # requests it is given at once; None: as many as there are connections
    ca: str | None = None  # PEM text of the only authority it is trusted by; None: the system's

    @property
    def hourly(self) -> int:
        """What this worker costs per hour, in nano-USD; 0 for hosted endpoints."""
        return self.gpu.hourly * self.gpus if self.gpu else 0


def configured(worker: str, names: Collection[str]) -> str:
    """Under which of the configuration's `names` a worker is known there: its own, or that of the one behind whose
    address it was found, which its own begins with; its own where there is neither."""
    if worker in names:
        return worker
    return max((name for name in names if worker.startswith(f"{name}-")), key=len, default=worker)


@dataclass(frozen=True, slots=True)
class Requires:
    """What a machine must have to run a version; None and empty ask for nothing. Versions compare part by part."""

    compute_capability: tuple[int, int] | None = None
    driver: tuple[int, ...] | None = None
    cpu: bool = True  # whether an engine on a CPU takes it
    cpu_flags: tuple[str, ...] = ()
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """`digest` is that of the registered artifact (sha256:…), None for one that anything may stand in for."""

    name: str
    artifact: str | None
    quantization: str
    quality: float | None
    digest: str | None = None
    requires: Requires = Requires()


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter; `tenants` None means every tenant may use it, `version` None that its files say which it is.
    The files of one that is `examined` are looked at before every load."""

    name: str
    path: str
    tenants: frozenset[str] | None
    version: str | None = None
    examined: bool = False
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """How much at a time; None means without limit."""

    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """`limits` are for all tenants together."""

    name: str
    context: int
    task: Literal["generate", "embed"]
    versions: Mapping[str, Version]
    traffic: tuple[tuple[str, int], ...]  # (version, weight), weights sum to 100; empty: every version serves
    adapters: Mapping[str, Adapter]
    limits: Limits = Limits()


class Candidate(NamedTuple):
    """One place a route may send a request to; version None means any version of the model."""

    model: str
    version: str | None
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """When a route applies; None means "any"."""

    models: frozenset[str] | None = None
    tenants: frozenset[str] | None = None
    tiers: frozenset[str] | None = None
    max_prompt_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class SubjectTo:
    ttft_p95: float | None = None
    min_quality: float | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    attempts: int = 2  # other workers tried after the first
    budget: float = 0.10  # share of traffic that may be retries


@dataclass(frozen=True, slots=True)
class Timeout:
    """Seconds: to connect, to the first token, between tokens, and in all."""

    connect: float = 2.0
    first_token: float = 60.0
    idle: float = 30.0
    total: float = 600.0


@dataclass(frozen=True, slots=True)
class CachePolicy:
    when: CacheWhen = "deterministic"
    ttl: float = 600.0


@dataclass(frozen=True, slots=True)
class Hedge:
    """When a second worker is asked: after `seconds`, or after the `percentile` of what the model took of late."""

    percentile: float | None
    seconds: float | None
    at_most: float  # share of the requests


@dataclass(frozen=True, slots=True)
class Route:
    name: str
    match: Match
    candidates: tuple[Candidate, ...]
    minimize: Objective
    subject_to: SubjectTo
    fallback: tuple[Candidate, ...]
    retry: Retry
    hedge: Hedge | None
    timeout: Timeout
    cache: CachePolicy
    mode: Literal["enforce", "shadow", "observe"]
    document_timeout: Timeout = field(
        init=False, repr=False
    )  # of an answer that comes whole, when its last token is done

    def __post_init__(self) -> None:
        object.__setattr__(self, "document_timeout", replace(self.timeout, first_token=self.timeout.total))


@dataclass(frozen=True, slots=True)
class Budget:
    nanousd: int
    per: Literal["day", "month", "total"]
    on_exceed: Literal["reject", "warn"]


@dataclass(frozen=True, slots=True)
class Tenant:
    """`models` None means everything that carries no tenant list of its own. `model_limits` count the tenant's requests
    to one model, beside `limits`, which count all of them."""

    name: str
    models: frozenset[str] | None
    limits: Limits
    budget: Budget | None
    weight: float
    tier: str
    priority: Priority = "standard"
    model_limits: Mapping[str, Limits] = field(default_factory=dict[str, Limits])
    reservation: float = 0.0  # share of every worker's idle time that is its to pay
    value_of_time: float | None = None  # nano-USD a second; None: no price makes up for a wait


@dataclass(frozen=True, slots=True)
class Key:
    """An API key known only by the SHA-256 digest of its text (32 bytes).

    Its own lists narrow what its tenant may do, never widen it; None means all of that. `expires` is in Unix seconds.
    """

    id: str
    digest: bytes
    tenant: Tenant
    limits: Limits = Limits()
    models: frozenset[str] | None = None  # as they are asked for
    endpoints: frozenset[str] | None = None  # by name: `chat.completions`
    expires: float | None = None
    priority: Priority | None = None  # None: its tenant's


@dataclass(frozen=True, slots=True)
class Server:
    host: str = "127.0.0.1"
    port: int = 4000
    processes: int = 1
    max_body_bytes: int = 20 * 1024 * 1024
    drain_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Cache:
    default_ttl: float = 600.0
    max_entry_bytes: int = 256 * 1024
    max_memory_bytes: int = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Log:
    format: Literal["json", "text"] = "json"
    prompts: Literal["none", "hash", "redacted", "full"] = "none"


@dataclass(frozen=True, slots=True)
class Probe:
    """How the gateway watches its workers, in seconds; `wait` bounds one probe, `load` is between two polls of load."""

    every: float = 2.0
    wait: float = 5.0
    load: float = 0.3


@dataclass(frozen=True, slots=True)
class Queue:
    """How many requests may wait in one process for a worker that has room, and how many seconds each."""

    length: int = 512
    wait: float = 10.0


@dataclass(frozen=True, slots=True)
class Metering:
    """How usage is recorded and shared out. Times are seconds, `audit_drift` a share."""

    journal: Path = Path("var/ledger.journal")
    journal_max_bytes: int = 1024 * 1024 * 1024
    on_full: Literal["serve", "refuse"] = "serve"
    readings: float = 5.0
    window: float = 60.0
    idle: Literal["own_line", "by_usage", "by_reservation"] = "own_line"
    audit_every: float = 3600.0
    audit_drift: float = 0.001
    retention: float = 400 * 86_400.0
    settler: Literal["embedded", "external"] = "embedded"


@dataclass(frozen=True, slots=True)
class Decisions:
    """Where each process keeps how its latest requests were routed, None for nowhere, and how much."""

    directory: Path | None = Path("var/ledger.decisions")
    max_bytes: int = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """gateway.yaml: how the process runs. `server`, `state`, `ledger`, `metering` and `decisions` take effect at start,
    the rest at once."""

    server: Server = Server()
    state: str = "memory://"
    ledger: str = "sqlite:///var/ledger.db"
    metering: Metering = Metering()
    decisions: Decisions = Decisions()
    cache: Cache = Cache()
    log: Log = Log()
    probe: Probe = Probe()
    queue: Queue = Queue()
    otlp_endpoint: str | None = None
    admin_key_digests: frozenset[bytes] = frozenset()
    adapter_directories: tuple[str, ...] = ()  # beneath which the API may add adapters


@dataclass(frozen=True, slots=True)
class Table:
    """One revision of the whole configuration. `revision` is a short hash of what was written."""

    revision: str
    directory: Path
    settings: Settings
    gpus: Mapping[str, Gpu]
    workers: Mapping[str, Worker]
    models: Mapping[str, Model]
    aliases: Mapping[str, str]  # alias -> "model", "model@version" or "model:adapter"
    routes: tuple[Route, ...]  # in order, first match wins
    tenants: Mapping[str, Tenant]
    keys: Mapping[bytes, Key]  # by digest
    model_keys: Mapping[str, Key] = field(default_factory=dict[str, Key])  # model -> in whose name its limits are kept
    prices: Mapping[str, Price] = field(default_factory=dict[str, Price])  # to show beside the bill; never charged

    @property
    def accounts(self) -> Mapping[str, Tenant]:
        """Whoever has limits: the tenants, and as one of them each model that all of them share limits of."""
        return {**self.tenants, **{key.tenant.name: key.tenant for key in self.model_keys.values()}}
