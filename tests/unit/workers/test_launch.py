"""Which workers `tollgate-worker launch` starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.table import Settings, Table, Worker
from tests.unit.workers.engines.jobs import worker
from workers.errors import WrongUsage
from workers.launch import choose


def fleet(*workers: Worker) -> Table:
    empty: dict[str, Any] = {"gpus": {}, "models": {}, "aliases": {}, "routes": (), "tenants": {}, "keys": {}}
    return Table("r", Path(), Settings(), workers={worker.name: worker for worker in workers}, **empty)


HERE, THERE, ELSEWHERE = worker(name="here"), worker(name="there"), worker(name="elsewhere", launch=None)


def test_all_is_what_has_a_launch() -> None:
    assert choose(fleet(HERE, ELSEWHERE, THERE), [], everything=True) == [HERE, THERE]


def test_names_choose_once_and_in_their_order() -> None:
    assert choose(fleet(HERE, THERE), ["there", "here", "there"], everything=False) == [THERE, HERE]


@pytest.mark.parametrize(
    ("names", "everything", "message"),
    [
        ([], False, "name the workers to start, or say --all; with `launch:` there are: here, there"),
        (["here"], True, "not both"),
        (["nobody"], False, "worker nobody is not in the fleet; with `launch:` there are: here, there"),
        (["elsewhere"], False, "worker elsewhere has no `launch:`, so it runs elsewhere"),
    ],
)
def test_wrong_usage_is_refused(names: list[str], everything: bool, message: str) -> None:
    with pytest.raises(WrongUsage) as refused:
        choose(fleet(HERE, ELSEWHERE, THERE), names, everything=everything)
    assert message in str(refused.value)


def test_a_fleet_without_launches() -> None:
    with pytest.raises(WrongUsage, match="no worker has `launch:`"):
        choose(fleet(ELSEWHERE), [], everything=True)
