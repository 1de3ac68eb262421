from __future__ import annotations

import json
from pathlib import Path

import pytest

from workers.capacity.gpus import TABLE
from workers.capacity.prices import FleetGpus, fleet_gpus, with_prices
from workers.errors import WrongUsage

L40S, H100 = TABLE["l40s"], TABLE["h100"]


def fleet(directory: Path, gpus: object) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "fleet.yaml").write_text(json.dumps({"gpus": gpus}))
    return directory


def test_the_command_line_comes_before_the_fleet_and_the_fleet_before_the_table(tmp_path: Path) -> None:
    found = fleet_gpus(fleet(tmp_path / "c", {"L40S": {"hourly_usd": 0.85}, "h100": {"hourly_usd": 2.0}}))
    prices = [gpu.hourly_usd for gpu in with_prices([L40S, H100, TABLE["l4"]], found.hourly_usd, ["h100=1.75"])]
    assert prices == [pytest.approx(0.85), 1.75, 0.70]


def test_one_price_for_all() -> None:
    assert [gpu.hourly_usd for gpu in with_prices([L40S, H100], {}, ["$2"])] == [2.0, 2.0]


def test_gpus_that_only_the_fleet_knows_have_its_memory(tmp_path: Path) -> None:
    written = {"own-card": {"hourly_usd": 0.5, "memory_gb": 32}, "l40s": {"hourly_usd": 1, "memory_gb": 48}}
    found = fleet_gpus(fleet(tmp_path / "c", written))
    assert set(found.others) == {"own-card"}
    assert found.others["own-card"].memory_bytes == pytest.approx(32e9, rel=0.08)
    assert with_prices(list(found.others.values()), found.hourly_usd, [])[0].hourly_usd == 0.5


@pytest.mark.parametrize("written", ["l40s=", "l40s=cheap", "l40s=-1", "l40s=nan", "l40s=1e9", "=1", "h300=1", "l4=1"])
def test_what_is_no_price_is_refused(written: str) -> None:
    with pytest.raises(WrongUsage):
        with_prices([L40S], {}, [written])


def test_a_fleet_that_is_named_must_be_valid_and_the_usual_one_need_not_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fleet_gpus(None) == FleetGpus()
    broken = fleet(tmp_path / "router_config", {"l40s": {"hourly": 1}})
    assert fleet_gpus(None) == FleetGpus()
    assert "tollgate check" in capsys.readouterr().err
    with pytest.raises(WrongUsage):
        fleet_gpus(broken)
    with pytest.raises(WrongUsage):
        fleet_gpus(tmp_path / "nothing")
