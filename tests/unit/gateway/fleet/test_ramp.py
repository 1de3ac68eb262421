"""How a new worker comes to its share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from gateway.fleet import ramp
from gateway.fleet.backend import FIRST_REQUESTS, Backend
from gateway.fleet.ramp import RAMP_SECONDS, most_inflight

if TYPE_CHECKING:
    from tests.unit.gateway.fleet.conftest import Kit


def up(kit: Kit, name: str, now: float = 100.0, *, cold: bool = False, inflight: int = 0) -> Backend:
    backend = kit.make_backend(kit.worker(name))
    backend.up, backend.inflight = True, inflight
    backend.forgive(now, cold=cold)
    return backend


@given(st.floats(0, RAMP_SECONDS), st.floats(0, RAMP_SECONDS), st.integers(0, 10_000))
def test_the_bound_grows_to_what_the_busiest_holds(one: float, other: float, busiest: int) -> None:
    sooner, later = sorted((one, other))
    assert FIRST_REQUESTS <= most_inflight(sooner, busiest) <= most_inflight(later, busiest)
    assert most_inflight(RAMP_SECONDS, busiest) >= busiest
    assert most_inflight(sooner, busiest) <= max(FIRST_REQUESTS, math.ceil(busiest))


def test_a_cold_worker_among_warm_ones_is_given_little_and_then_all(kit: Kit) -> None:
    warm, cold = up(kit, "a", inflight=40), up(kit, "b", cold=True)
    assert cold.most_cold == FIRST_REQUESTS
    given: list[int] = []
    for second in range(1, 11):
        ramp.step([(warm, cold)], 100.0 + second * RAMP_SECONDS / 10)
        given.append(cold.most_cold)
    assert given == [4, 8, 12, 16, 20, 24, 28, 32, 36, 0]
    assert cold.cold_since == 0.0
    cold.inflight = 10_000
    assert cold.has_room(200.0)


def test_it_has_no_room_beyond_its_bound(kit: Kit) -> None:
    cold = up(kit, "b", cold=True, inflight=FIRST_REQUESTS)
    assert not cold.has_room(100.0)
    cold.inflight -= 1
    assert cold.has_room(100.0)


def test_where_nobody_is_warm_nobody_is_spared(kit: Kit) -> None:
    for change in ("up", "draining", "silent"):
        warm, cold, other = up(kit, "a", inflight=40), up(kit, "b", cold=True), up(kit, "c", cold=True)
        setattr(warm, change, change != "up")
        ramp.step([(warm, cold, other)], 101.0)
        assert (cold.most_cold, other.most_cold) == (0, 0), change
        assert cold.cold_since
        setattr(warm, change, change == "up")  # it is back, and takes its share again
        ramp.step([(warm, cold, other)], 102.0)
        assert cold.most_cold == 8


def test_those_who_serve_something_else_say_nothing(kit: Kit) -> None:
    cold, other = up(kit, "a", cold=True), up(kit, "b", inflight=40)
    ramp.step([(cold,), (other,)], 101.0)
    assert cold.most_cold == 0
