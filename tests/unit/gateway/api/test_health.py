"""Alive is one thing, able to serve another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.gateway.api.conftest import Plane


@pytest.mark.parametrize("path", ["/healthz", "/health"])
def test_alive_whatever_the_workers_do(path: str, plane: Plane) -> None:
    answer = plane.ask(path)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_not_ready_says_which_models_nobody_serves(plane: Plane) -> None:
    plane.up("chat-int4-0")
    answer = plane.ask("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"status": "not ready", "missing": ["embed"]})


def test_ready_with_one_worker_of_each_model(plane: Plane) -> None:
    plane.up("chat-int4-0", "e")
    answer = plane.ask("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


def test_a_draining_worker_does_not_make_ready(plane: Plane) -> None:
    plane.up("chat-int4-0", "e")
    plane.fleet.drain("e")
    assert plane.ask("/readyz").json()["missing"] == ["embed"]


def test_a_configuration_without_workers_and_routes_is_ready(plane: Plane) -> None:
    empty = type(plane)(table=replace(plane.table, workers={}, routes=()))
    assert empty.ask("/readyz").status_code == 200


def test_nothing_is_said_of_workers_to_strangers(plane: Plane) -> None:
    assert "chat-fp8-0" not in plane.ask("/readyz").text
