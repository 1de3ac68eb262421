"""The Compose files: what they mount is there, and the configuration they ship is one the gateway takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import examine

COMPOSE = Path(__file__).resolve().parents[3] / "deploy/compose"
ENVIRON = {
    "TOLLGATE_ADMIN_SHA256": "a" * 64,
    "TOLLGATE_TEAM_SHA256": "b" * 64,
    "TOLLGATE_POSTGRES_PASSWORD": "c" * 48,
}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]


def test_the_shipped_configuration_is_valid() -> None:
    outcome = examine(COMPOSE / "config", ENVIRON)
    assert outcome.table is not None, outcome.problems


def test_every_mounted_file_is_there(services: dict[str, Any]) -> None:
    mounts = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", ())]
    local = [mount for mount in mounts if mount.startswith("./")]
    assert local
    assert all((COMPOSE / mount).exists() for mount in local)


def test_the_gateway_finds_its_worker_and_redis_by_their_service_names(services: dict[str, Any]) -> None:
    table = examine(COMPOSE / "config", ENVIRON).table
    assert table is not None
    (worker,) = table.workers.values()
    assert worker.url == "http://worker:8000"
    assert "--port=8000" in services["worker"]["command"]
    assert f"--served-model-name={worker.model}@{worker.version}" in services["worker"]["command"]
    assert table.settings.state.startswith("redis://redis:")


def test_the_settler_shares_the_journal_of_the_gateway_and_both_know_the_ledger(services: dict[str, Any]) -> None:
    table = examine(COMPOSE / "config", ENVIRON).table
    assert table is not None
    postgres = services["postgres"]["environment"]
    user, database = postgres["POSTGRES_USER"], postgres["POSTGRES_DB"]
    assert table.settings.ledger == f"postgresql://{user}:{'c' * 48}@postgres:5432/{database}"
    assert table.settings.metering.settler == "external"
    assert not table.settings.metering.journal.is_absolute()  # beneath the image's working directory, a volume
    gateway, settler = services["gateway"], services["settler"]
    assert settler["volumes"] == gateway["volumes"]
    assert settler["environment"].keys() == gateway["environment"].keys() == ENVIRON.keys()
    assert settler["image"] == gateway["image"]


def test_redis_does_not_evict_what_is_on_its_way_to_the_ledger(services: dict[str, Any]) -> None:
    command = services["redis"]["command"]
    assert command[command.index("--maxmemory-policy") + 1].startswith("volatile-")


def test_engines_and_state_are_not_published(services: dict[str, Any]) -> None:
    assert all("ports" not in services[name] for name in ("worker", "redis", "postgres", "settler"))
    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service.get("ports", ()))


def test_prometheus_scrapes_the_gateway(services: dict[str, Any]) -> None:
    scrapes = yaml.safe_load((COMPOSE / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    targets = {target for scrape in scrapes for group in scrape["static_configs"] for target in group["targets"]}
    assert {target.split(":")[0] for target in targets} <= set(services)
    assert "gateway:4000" in targets


def test_the_alerts_are_loaded_and_speak_of_metrics_there_are() -> None:
    files = yaml.safe_load((COMPOSE / "prometheus/prometheus.yml").read_text())["rule_files"]
    rules = [
        rule
        for file in files
        for group in yaml.safe_load((COMPOSE / "prometheus" / file).read_text())["groups"]
        for rule in group["rules"]
    ]
    assert [rule["alert"] for rule in rules] == ["TollgateLedgerDrift", "TollgateLedgerSetAside"]
    exported = "\n".join(path.read_text() for path in (COMPOSE.parents[1] / "gateway").glob("*.py"))
    for rule in rules:
        for metric in re.findall(r"tollgate_\w+", rule["expr"]):
            assert f'"{metric}"' in exported
