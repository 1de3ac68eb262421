"""From what was written to what runs: a checked draft becomes the frozen `Table`.

Only a draft without errors comes here, so every entry is whole and every name leads somewhere.
"""

from __future__ import annotations

from hashlib import sha256

from gateway import table
from gateway.config.draft import Draft
from gateway.config.references import References
from gateway.config.units import nanousd, parse_duration
from gateway.config.written import Configuration, fleet, models, routes
from gateway.config.written import tenants as written_tenants
from gateway.config.written.base import Limits
from gateway.ledger.location import decisions_path, journal_path
from gateway.routing.names import parse

KIB, MIB, GB = 1024, 1024 * 1024, 10**9


def compile_table(draft: Draft) -> table.Table:
    references = References(draft)
    gpus = {name: _gpu(name, spec) for name, spec in draft.gpus.items() if spec}
    compiled = {name: _model(name, spec) for name, spec in draft.models.items() if spec}
    tenants, keys = compile_keys(draft)
    return table.Table(
        revision=draft.source.revision,
        directory=draft.source.directory,
        settings=_settings(draft.settings),
        gpus=gpus,
        workers={spec.name: _worker(spec, gpus, draft.authorities) for spec in draft.workers if spec},
        models=compiled,
        aliases={alias: references.follow(alias) for alias in draft.aliases},
        routes=tuple(_route(spec, draft.settings, references, compiled) for spec in draft.routes if spec),
        tenants=tenants,
        keys=keys,
        model_keys=_model_keys(compiled),
        prices={name: compile_price(spec) for name, spec in draft.settings.prices.items()},
    )


def compile_keys(draft: Draft) -> tuple[dict[str, table.Tenant], dict[bytes, table.Key]]:
    """Who may call, by name, and with what, by digest; also of a draft with errors, as far as it goes."""
    every = {name: _tenant(name, spec) for name, spec in draft.tenants.items() if spec}
    keys = {
        digest: _key(key, digest, every[name])
        for name, spec in draft.tenants.items()
        if spec
        for key in spec.keys
        for digest in (bytes.fromhex(key.sha256),)
    }
    return every, keys


def compile_version(name: str, spec: models.Version) -> table.Version:
    return table.Version(
        name, spec.artifact, spec.quantization, spec.quality, spec.digest, compile_requires(spec.requires)
    )


def compile_requires(spec: models.Requires) -> table.Requires:
    capability = spec.compute_capability
    return table.Requires(
        compute_capability=None if capability is None else (int(capability), round(capability * 10) % 10),
        driver=None if spec.driver is None else tuple(map(int, spec.driver.split("."))),
        cpu=spec.cpu,
        cpu_flags=tuple(spec.cpu_flags),
        memory_bytes=None if spec.memory_gb is None else round(spec.memory_gb * GB),
    )


def _settings(written: Configuration) -> table.Settings:
    server, cache = written.server, written.cache
    return table.Settings(
        server=table.Server(
            server.host, server.port, server.processes, server.max_body_mb * MIB, float(server.drain_seconds)
        ),
        state=written.state,
        ledger=written.ledger,
        metering=_metering(written),
        decisions=compile_decisions(written),
        cache=table.Cache(cache.default_ttl, cache.max_entry_kb * KIB, cache.max_memory_mb * MIB),
        log=table.Log(written.log.format, written.log.prompts),
        probe=table.Probe(written.probe.every, written.probe.wait, written.probe.load),
        queue=table.Queue(written.queue.length, written.queue.wait),
        otlp_endpoint=written.telemetry.otlp_endpoint,
        admin_key_digests=frozenset(bytes.fromhex(key.sha256) for key in written.admin.keys),
        adapter_directories=tuple(written.adapters.directories),
    )


def _metering(written: Configuration) -> table.Metering:
    spec = written.metering
    return table.Metering(
        journal=journal_path(written.ledger, spec.journal),
        journal_max_bytes=spec.journal_max_mb * MIB,
        on_full=spec.on_full,
        readings=spec.readings,
        window=spec.window,
        idle=spec.idle,
        audit_every=spec.audit.every,
        audit_drift=spec.audit.drift,
        retention=spec.retention,
        settler=spec.settler,
    )


def compile_decisions(written: Configuration) -> table.Decisions:
    spec = written.decisions
    if not spec.keep_mb:
        return table.Decisions(None, 0)
    return table.Decisions(decisions_path(written.ledger, written.metering.journal, spec.directory), spec.keep_mb * MIB)


def _gpu(name: str, spec: fleet.Gpu) -> table.Gpu:
    memory = None if spec.memory_gb is None else round(spec.memory_gb * GB)
    return table.Gpu(name, nanousd(spec.hourly_usd), memory)


def _worker(spec: fleet.Worker, gpus: dict[str, table.Gpu], authorities: dict[str, str]) -> table.Worker:
    model, _, version = spec.serves.partition("@")
    launch = None
    if spec.launch is not None:
        launch = table.Launch(spec.launch.port, tuple(spec.launch.args), dict(spec.launch.env))
    return table.Worker(
        name=spec.name,
        url=(spec.url or f"http://127.0.0.1:{launch.port if launch else 0}").rstrip("/"),
        engine=spec.engine,
        model=model,
        version=version,
        gpu=gpus[spec.gpu] if spec.gpu else None,
        gpus=spec.gpus,
        max_loras=spec.max_loras,
        price=compile_price(spec.price) if spec.price else None,
        api_key=spec.api_key,
        launch=launch,
        serves_as=spec.serves_as,
        max_inflight=spec.max_inflight,
        ca=None if spec.tls is None else authorities[spec.tls.ca],
    )


def compile_price(spec: fleet.Price) -> table.Price:
    cached = spec.input_usd_per_m if spec.cached_input_usd_per_m is None else spec.cached_input_usd_per_m
    return table.Price(nanousd(spec.input_usd_per_m), nanousd(cached), nanousd(spec.output_usd_per_m))


def _model(name: str, spec: models.Model) -> table.Model:
    return table.Model(
        name=name,
        context=spec.context,
        task=spec.task,
        versions={version: compile_version(version, below) for version, below in spec.versions.items()},
        traffic=tuple(spec.traffic.items()),
        adapters={adapter: _adapter(adapter, below) for adapter, below in spec.adapters.items()},
        limits=_limits(spec.limits),
    )


def _model_keys(compiled: dict[str, table.Model]) -> dict[str, table.Key]:
    """No tenant's name has a colon, and no key's digest is one of these."""
    keys: dict[str, table.Key] = {}
    for name, model in compiled.items():
        if model.limits != table.Limits():
            owner = table.Tenant(f"model:{name}", None, model.limits, None, 1.0, "")
            keys[name] = table.Key(name, sha256(owner.name.encode()).digest(), owner)
    return keys


def _adapter(name: str, spec: models.Adapter) -> table.Adapter:
    tenants = None if spec.tenants is None else frozenset(spec.tenants)
    return table.Adapter(name, spec.path, tenants, spec.version, digest=spec.digest)


def _route(
    spec: routes.Route, settings: Configuration, references: References, compiled: dict[str, table.Model]
) -> table.Route:
    def candidates(names: list[str]) -> tuple[table.Candidate, ...]:
        found = (parse(references.follow(name), compiled) for name in names)
        return tuple(candidate for candidate in found if candidate is not None)

    timeout, ttl = spec.timeout, spec.cache.ttl
    return table.Route(
        name=spec.name,
        match=table.Match(
            models=_any_of(spec.match.model),
            tenants=_any_of(spec.match.tenant),
            tiers=_any_of(spec.match.tier),
            max_prompt_tokens=spec.match.max_prompt_tokens,
        ),
        candidates=candidates(spec.candidates),
        minimize=spec.minimize,
        subject_to=table.SubjectTo(spec.subject_to.ttft_p95, spec.subject_to.min_quality),
        fallback=candidates(spec.fallback),
        retry=table.Retry(spec.retry.attempts, spec.retry.budget),
        hedge=_hedge(spec.hedge) if spec.hedge else None,
        timeout=table.Timeout(timeout.connect, timeout.first_token, timeout.idle, timeout.total),
        cache=table.CachePolicy(spec.cache.when, settings.cache.default_ttl if ttl is None else ttl),
        mode=spec.mode,
    )


def _hedge(spec: routes.Hedge) -> table.Hedge:
    after = spec.after
    if after.startswith("p"):
        return table.Hedge(float(after[1:]), None, spec.at_most)
    return table.Hedge(None, parse_duration(after), spec.at_most)


def _any_of(names: list[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)


def _tenant(name: str, spec: written_tenants.Tenant) -> table.Tenant:
    budget = spec.budget
    return table.Tenant(
        name=name,
        models=_any_of(spec.models),
        limits=_limits(spec.limits),
        budget=table.Budget(nanousd(budget.usd), budget.per, budget.on_exceed) if budget else None,
        weight=float(spec.weight),
        tier=spec.tier,
        priority=spec.priority,
        reservation=spec.reservation,
        value_of_time=None
        if spec.value_of_time_usd_per_hour is None
        else nanousd(spec.value_of_time_usd_per_hour) / 3600,
        model_limits={model: _limits(below) for model, below in spec.limits.models.items()},
    )


def _key(spec: written_tenants.Key, digest: bytes, tenant: table.Tenant) -> table.Key:
    return table.Key(
        id=spec.id,
        digest=digest,
        tenant=tenant,
        limits=_limits(spec.limits),
        models=_any_of(spec.models),
        endpoints=None if spec.endpoints is None else frozenset(spec.endpoints),
        expires=spec.expires,
        priority=spec.priority,
    )


def _limits(spec: Limits) -> table.Limits:
    return table.Limits(spec.rpm, spec.tpm, spec.concurrency)
