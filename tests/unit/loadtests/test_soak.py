"""What the soak calls right and wrong, and a short one."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.soak import checks
from loadtests.soak.checks import Samples, slope
from loadtests.soak.traffic import Seen, calm, rough

MIB = 2**20


def noisy(per_second: float, seconds: int = 600) -> list[tuple[float, float]]:
    dice = random.Random(7)
    return [(float(at), 100 * MIB + per_second * at + dice.gauss(0, 0.2 * MIB)) for at in range(seconds)]


def test_a_slope_is_found_within_its_interval() -> None:
    found = slope(noisy(1000.0))
    assert found.low < 1000.0 < found.high
    assert found.high - found.low < 500.0


def test_too_little_has_no_slope() -> None:
    assert math.isnan(slope([(0.0, 1.0), (1.0, 2.0)]).value)


def test_memory_that_grows_is_found() -> None:
    assert checks.memory(noisy(0.0)).holds
    assert not checks.memory(noisy(20_000.0)).holds
    assert checks.memory(noisy(20_000.0, 100)).holds  # less than what an allocator may keep


def test_a_late_event_loop_is_found() -> None:
    assert checks.lag([0.001] * 1000 + [0.4]).holds
    assert not checks.lag([0.001] * 90 + [0.4] * 10).holds


def test_descriptors_that_are_not_given_back_are_found() -> None:
    assert checks.descriptors(20, 22, 3).holds
    assert not checks.descriptors(20, 24, 3).holds


def test_something_under_way_is_found() -> None:
    assert checks.nothing_left([("tollgate_worker_inflight", {"worker": "a"}, 0.0)]).holds
    assert not checks.nothing_left([("tollgate_worker_inflight", {"worker": "a"}, 1.0)]).holds


def counted(**statuses: int) -> Samples:
    return [("tollgate_requests_total", {"status": name[1:]}, float(count)) for name, count in statuses.items()]


def test_answers_that_differ_are_found() -> None:
    seen = Seen(left=3)
    seen.statuses.update({200: 10, 503: 1})
    aborts = ("tollgate_aborts_total", {"phase": "waiting"}, 3.0)
    broken_off = ("tollgate_attempts_total", {"worker": "w0", "outcome": "aborted"}, 3.0)
    right = [*counted(s200=11, s499=2, s503=1), aborts, broken_off]
    assert all(check.holds for check in checks.clients(seen, right, 0))
    assert not checks.clients(seen, [*counted(s200=11, s499=2), aborts], 0)[0].holds
    assert not checks.clients(seen, [*counted(s200=11, s499=3, s503=1), aborts], 0)[0].holds
    assert not checks.clients(seen, [*right, aborts], 0)[1].holds
    assert not checks.clients(seen, right[:-1], 0)[1].holds
    assert not checks.clients(seen, right, 1)[1].holds
    assert checks.clients(seen, [*right[:-1], (*broken_off[:2], 2.0)], 1)[1].holds
    seen.faults["connection lost"] += 1
    assert not checks.clients(seen, right, 0)[2].holds


def row(**fields: object) -> dict[str, object]:
    usual = {"worker": "w", "outcome": "ok", "status": 200, "estimated": 0, "cost_nanousd": 5}
    return {**usual, "prompt_tokens": 10, "cached_tokens": 2, "output_tokens": 4, **fields}


def test_a_ledger_and_metrics_that_differ_are_found() -> None:
    rows = [row(), row(outcome="aborted", estimated=1), row(outcome="cached", worker="", cost_nanousd=0)]
    samples: Samples = [
        ("tollgate_attempts_total", {"outcome": "ok"}, 1.0),
        ("tollgate_attempts_total", {"outcome": "aborted"}, 1.0),
        ("tollgate_tokens_total", {"kind": "prompt"}, 20.0),
        ("tollgate_tokens_total", {"kind": "cached"}, 4.0),
        ("tollgate_tokens_total", {"kind": "output"}, 8.0),
        ("tollgate_cost_usd_total", {}, 10e-9),
    ]
    assert all(check.holds for check in checks.ledger(rows, samples))
    for missing in range(len(samples)):
        fewer = [sample for number, sample in enumerate(samples) if number != missing]
        assert not all(check.holds for check in checks.ledger(rows, fewer))
    assert not checks.ledger([row(estimated=1)], samples)[-1].holds
    assert not checks.ledger([row(outcome="aborted")], samples)[-1].holds


def test_a_worker_and_a_ledger_that_differ_are_found() -> None:
    before = {"request_success_total stop": 1.0, "prompt_tokens_total": 3.0}
    after = {
        "request_success_total stop": 3.0,
        "admission_rejections_total": 1.0,
        "prompt_tokens_total": 13.0,
        "generation_tokens_total": 4.0,
    }
    rows = [row(), row(outcome="failed", status=503, prompt_tokens=0, output_tokens=0), row(worker="other")]
    assert checks.worker_exact("w", before, after, rows).holds
    for counter in after:
        assert not checks.worker_exact("w", before, {**after, counter: after[counter] + 1}, rows).holds
    assert not checks.worker_exact("w", before, after, rows[:1]).holds
    assert checks.worker_bounded("w", {}, {"request_success_total abort": 3.0}, rows).holds
    assert not checks.worker_bounded("w", {}, {"request_success_total abort": 1.0}, rows).holds


def test_the_traffic_has_every_kind() -> None:
    dice = random.Random(1)
    finishing = [calm(dice) for _ in range(2000)]
    failing = [rough(dice) for _ in range(2000)]
    assert {ask.path for ask in finishing} >= {"/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/score"}
    assert {ask.body.get("stream") for ask in finishing} >= {True, False}
    assert not any(ask.leaves for ask in finishing)
    assert 0.3 < sum(ask.leaves for ask in failing) / len(failing) < 0.5
    faults = {ask.body["standin"].get("fault") for ask in failing}
    assert {"die", "reset", "garbage", "hang_up", "refuse", "half_close", "error_frame", "stuck", "silent"} <= faults


@pytest.mark.parametrize("seed", [1])
def test_a_short_soak(seed: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtests.soak", "--minutes", "0.2", "--rate", "120", "--seed", str(seed)]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = tmp_path.iterdir()
    document = json.loads(file.read_text())
    assert document["asked"] > 1000
    assert document["left"] > 20
    assert document["kills"] >= 1
    assert all(check["holds"] for check in document["checks"])
