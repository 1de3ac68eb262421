"""What is read off the gateway whenever its metrics are collected."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from gateway.config.watch import WatchState
from gateway.downstream.limits import Intake
from gateway.engines.load import UNKNOWN
from gateway.fleet.registry import Fleet
from gateway.fleet.room import REFUSALS, WaitingRoom
from gateway.ledger.writer import Ledger
from gateway.logs import LogWriter
from gateway.settler.status import read_status
from gateway.table import PRIORITIES, Tenant
from gateway.telemetry import Reading
from gateway.tenancy.limiter import BUDGET
from gateway.tenancy.limits import Limiter

SILENT_SECONDS = 3.0  # a settler says every second how far it is


def of_workers(fleet: Fleet) -> Iterator[Reading]:
    now = time.monotonic()
    for backend in fleet.backends():
        labels = {"worker": backend.worker.name, "model": f"{backend.worker.model}@{backend.worker.version}"}
        yield Reading("tollgate_worker_up", "1 when the worker takes requests.", float(backend.up), labels)
        opened = sum(1 for breaker in backend.breakers.values() if breaker.state != "closed")
        yield Reading("tollgate_worker_breaker_open", "Its models and adapters not asked for.", opened, labels)
        ejected = float(backend.standing.ejected_until > now)
        yield Reading("tollgate_worker_ejected", "1 while it is left alone for its failures.", ejected, labels)
        silent = "1 while it owes answers and nothing is heard of it."
        yield Reading("tollgate_worker_silent", silent, float(backend.silent), labels)
        for name, help, figure in (
            ("tollgate_worker_engine_running", "Requests its engine works on, by its own word.", backend.running),
            ("tollgate_worker_engine_waiting", "Requests in its engine's own queue.", backend.waiting),
            ("tollgate_worker_engine_kv_usage", "Of its engine's KV cache, 0 to 1.", backend.kv_usage),
        ):
            if figure != UNKNOWN:
                yield Reading(name, help, figure, labels)
        yield Reading("tollgate_worker_inflight", "Requests under way on it.", backend.inflight, labels)
        yield Reading(
            "tollgate_worker_pending_tokens",
            "Prompt tokens sent to it that have not reached their first token.",
            backend.pending_tokens,
            labels,
        )
        yield Reading("tollgate_worker_connections", "Connections open to it.", backend.pool.connections, labels)
        yield Reading(
            "tollgate_worker_busy_seconds_total",
            "Time it had at least one request.",
            backend.meter.busy / 1e9,
            labels,
        )


def of_discovery(fleet: Fleet) -> Iterator[Reading]:
    for name, one in fleet.discoveries().items():
        labels = {"worker": name}
        yield Reading("tollgate_discovery_found", "Workers behind a configured address.", len(one.urls), labels)
        failing = "1 while they cannot be looked up, and those known stay."
        yield Reading("tollgate_discovery_failing", failing, float(bool(one.error)), labels)


def of_queue(room: WaitingRoom) -> Iterator[Reading]:
    for rank, priority in enumerate(PRIORITIES):
        labels = {"priority": priority}
        waiting = room.crowd.of_class(rank)
        yield Reading("tollgate_queue_waiting", "Requests that wait for a worker with room.", waiting, labels)
        for reason in REFUSALS:
            yield Reading(
                "tollgate_queue_refused_total",
                "Requests the queue had no place for, or not in time.",
                room.refused[reason, rank],
                {**labels, "reason": reason},
            )


def of_clients(intake: Intake) -> Iterator[Reading]:
    yield Reading("tollgate_client_connections", "Connections of clients.", intake.connections, {})
    yield Reading("tollgate_client_connections_refused_total", "Clients that found no place.", intake.turned_away, {})
    yield Reading("tollgate_receiving_bytes", "Of bodies that are on their way.", intake.receiving_bytes, {})


def of_limits(limiter: Limiter, tenants: Mapping[str, Tenant]) -> Iterator[Reading]:
    """Of tenants, not of each of their keys: those come and go, and `/admin/v1/limits` has them."""
    state = limiter.state
    away = "1 while the store that replicas share limits in is away."
    yield Reading("tollgate_limit_store_away", away, float(state.is_away), {})
    yield Reading("tollgate_limit_processes", "Processes that share the limits.", state.processes, {})
    yield Reading("tollgate_limit_waiting", "Requests that wait for the store's answer.", state.waiting, {})
    now = time.time()
    for tenant in tenants.values():
        for one in limiter.standings(tenant, now):
            labels = {"tenant": tenant.name}
            if one.account.startswith(BUDGET) and one.budget is not None and one.spent is not None:
                yield Reading("tollgate_limit_budget_usd", "May be spent in the period.", one.budget / 1e9, labels)
                spent = "Spent in the period, by all processes."
                yield Reading("tollgate_limit_budget_spent_usd", spent, one.spent / 1e9, labels)
            if one.account != "tenant":
                continue
            for kind, limit, remaining in (
                ("requests", one.requests_limit, one.requests_remaining),
                ("tokens", one.tokens_limit, one.tokens_remaining),
                ("concurrency", one.places_limit, one.places_remaining),
            ):
                if limit is not None and remaining is not None:
                    of_kind = {**labels, "kind": kind}
                    yield Reading("tollgate_limit_max", "What a tenant is limited to.", limit, of_kind)
                    yield Reading("tollgate_limit_remaining", "What is left of it.", remaining, of_kind)


def of_ledger(ledger: Ledger, journal: Path) -> Iterator[Reading]:
    stats = ledger.stats
    yield Reading("tollgate_ledger_recorded_total", "Attempts that ended and stand in the journal.", stats.recorded, {})
    yield Reading(
        "tollgate_ledger_dropped_total", "Attempts that found the journal full; they are in the log.", stats.dropped, {}
    )
    yield Reading("tollgate_ledger_journal_full", "1 while the journal can not grow.", float(stats.full), {})
    status = read_status(journal)  # of the settler, which may be another machine's process's no more than ours
    yield Reading(
        "tollgate_ledger_settled", "Attempts written to the ledger since the settler began.", status.settled, {}
    )
    yield Reading(
        "tollgate_ledger_refused", "Attempts the ledger can not take; they are in the log.", status.refused, {}
    )
    yield Reading("tollgate_ledger_crashed", "Attempts of killed gateways, settled as known.", status.crashed, {})
    for name, what, count in (
        ("tollgate_ledger_set_aside", "Batches set aside in Redis: they could not be written.", status.set_aside),
        ("tollgate_ledger_claimed", "Batches in Redis taken over from a settler that died.", status.claimed),
        ("tollgate_ledger_streamed", "Batches in Redis that wait to be written.", status.streamed),
    ):
        yield Reading(name, what, count, {})
    queued = max(0, stats.recorded + stats.owed - status.journals.get(ledger.source, 0))
    silent = time.time() - status.at if queued and status.at else 0.0  # a settler that is dead or stuck says nothing
    lag = max(status.lag_seconds, silent if silent > SILENT_SECONDS else 0.0)
    yield Reading("tollgate_ledger_queued", "Attempts of this process that are not yet in the ledger.", queued, {})
    yield Reading("tollgate_ledger_lag_seconds", "Age of the oldest of them.", lag, {})
    for quantile, seconds in (("0.5", status.settle_p50), ("0.99", status.settle_p99)):
        yield Reading(
            "tollgate_ledger_settle_seconds", "From an attempt's end to the ledger.", seconds, {"quantile": quantile}
        )
    for worker, ratio in status.drift.items():
        drift = "Part of a worker's tokens, by its own counters, that the ledger cannot explain."
        yield Reading("tollgate_ledger_drift_ratio", drift, ratio, {"worker": worker})
    yield Reading("tollgate_ledger_away", "1 while the ledger can not be written.", float(bool(status.last_error)), {})


def of_configuration(state: WatchState) -> Iterator[Reading]:
    yield Reading("tollgate_config_reloads_total", "Configuration changes put into effect.", state.reloads, {})
    yield Reading("tollgate_config_failures_total", "Configuration changes refused.", state.failures, {})
    yield Reading("tollgate_config_valid", "1 when what lies on disk is in effect.", float(not state.last_error), {})


def of_log(log: LogWriter) -> Iterator[Reading]:
    yield Reading("tollgate_log_dropped_total", "Log lines dropped because nobody read them.", log.dropped, {})
