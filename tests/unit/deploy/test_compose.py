"""The Compose files: what they mount is there, and the configuration they ship is one the gateway takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import examine

COMPOSE = Path(__file__).resolve().parents[3] / "deploy/compose"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]


def test_the_shipped_configuration_is_valid() -> None:
    environ = {"TOLLGATE_ADMIN_SHA256": "a" * 64, "TOLLGATE_TEAM_SHA256": "b" * 64}
    outcome = examine(COMPOSE / "config", environ)
    assert outcome.table is not None, outcome.problems


def test_every_mounted_file_is_there(services: dict[str, Any]) -> None:
    mounts = [volume.split(":")[0] for service in services.values() for volume in service.get("volumes", ())]
    local = [mount for mount in mounts if mount.startswith("./")]
    assert local
    assert all((COMPOSE / mount).exists() for mount in local)


def test_the_gateway_finds_its_worker_and_redis_by_their_service_names(services: dict[str, Any]) -> None:
    environ = {"TOLLGATE_ADMIN_SHA256": "a" * 64, "TOLLGATE_TEAM_SHA256": "b" * 64}
    table = examine(COMPOSE / "config", environ).table
    assert table is not None
    (worker,) = table.workers.values()
    assert worker.url == "http://worker:8000"
    assert "--port=8000" in services["worker"]["command"]
    assert f"--served-model-name={worker.model}@{worker.version}" in services["worker"]["command"]
    assert table.settings.state.startswith("redis://redis:")


def test_engines_and_state_are_not_published(services: dict[str, Any]) -> None:
    assert "ports" not in services["worker"]
    assert "ports" not in services["redis"]
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
    assert [rule["alert"] for rule in rules] == ["TollgateLedgerDrift"]
    exported = "\n".join(path.read_text() for path in (COMPOSE.parents[1] / "gateway").glob("*.py"))
    for rule in rules:
        for metric in re.findall(r"tollgate_\w+", rule["expr"]):
            assert f'"{metric}"' in exported
