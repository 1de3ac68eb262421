"""Which readings are of use to an audit, and where an engine began anew."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.audit.marks import SILENT_SECONDS, heard, lives, marks
from gateway.ledger.audits import LAST
from gateway.ledger.record import Reading
from tests.unit.gateway.audit.rows import mark, reading


def calm(
    *readings: Reading, own: set[str] | None = None, now: float = 2_000.0, through: float = 2_000.0
) -> list[float]:
    return [one.at for one in marks(readings, now, through=through, own=own) if one.calm]


@pytest.mark.parametrize(
    "busy", [{"in_flight": 1}, {"running": 1}, {"waiting": 1}, {"prompt_tokens": -1}, {"output_tokens": -1}]
)
def test_a_reading_is_calm_when_nobody_knows_of_work(busy: dict[str, Any]) -> None:
    assert calm(reading(1_500.0, 5, 5)) == [1_500.0]
    assert calm(reading(1_500.0, 5, 5)._replace(**busy)) == []


def test_an_engine_that_does_not_tell_its_load_can_be_calm() -> None:
    assert calm(reading(1_500.0, 5, 5, running=-1, waiting=-1)) == [1_500.0]


def test_what_may_still_come_is_waited_for() -> None:
    assert calm(reading(1_500.0), reading(1_600.0), through=1_550.0) == [1_500.0]


def test_other_processes_must_have_said_later_that_they_have_nothing_in_flight() -> None:
    own = {"g1"}
    busy = reading(1_490.0, source="g2", in_flight=1)
    assert calm(busy, reading(1_500.0), own=own) == []
    assert calm(busy, reading(1_500.0), reading(1_505.0, source="g2", in_flight=1), own=own) == []
    assert calm(busy, reading(1_500.0), reading(1_505.0, source="g2"), own=own) == [1_500.0, 1_505.0]
    assert calm(busy, reading(1_500.0)) == [1_500.0]  # all are the caller's own, who knows


def test_one_that_began_later_had_nothing_before() -> None:
    late = reading(1_600.0, source="g2", in_flight=1)
    assert calm(reading(1_500.0), late, own={"g1"}) == [1_500.0]


def test_one_that_has_been_silent_for_long_is_gone() -> None:
    busy = reading(1_490.0, source="g2", in_flight=1)
    assert calm(busy, reading(1_500.0), own={"g1"}, now=1_490.0 + SILENT_SECONDS + 1) == [1_500.0]


def test_one_that_has_said_that_it_ends_is_not_waited_for() -> None:
    last = reading(1_495.0, source="g2", busy_ns=LAST)
    assert calm(last, reading(1_500.0), own={"g1"}) == [1_495.0, 1_500.0]
    assert calm(last._replace(busy_ns=0), reading(1_500.0), own={"g1"}) == [1_495.0]
    again = reading(1_498.0, source="g2", in_flight=1)  # the worker was taken out of its configuration, and put back
    assert calm(last, again, reading(1_500.0), own={"g1"}) == [1_495.0]


def test_who_is_waited_for_is_known() -> None:
    kept = [reading(1_490.0, source="g2"), reading(1_491.0, source="g3", in_flight=2), reading(1_492.0, source="g4")]
    others = heard([*kept, reading(1_505.0, source="g4"), reading(1_500.0)], {"g1"})
    assert [one.source for one in others.awaited(1_500.0, 1_510.0)] == ["g2", "g3"]
    assert [one.source for one in others.awaited(1_490.5, 1_510.0)] == ["g2"]
    assert list(others.awaited(1_500.0, 1_500.0 + SILENT_SECONDS)) == []


def test_an_engine_with_another_start_is_another() -> None:
    one, two, three = mark(1.0, 10, 10), mark(2.0, 20, 20), mark(3.0, 30, 30, started=2.5)
    assert lives([one, two, three]) == [[one, two], [three]]


def test_where_the_start_is_not_known_a_counter_that_fell_is_a_restart() -> None:
    one, two, three = mark(10.0, 10, 10, started=0), mark(20.0, 20, 20, started=0), mark(30.0, 2, 21, started=0)
    assert lives([one, two, three]) == [[one, two], [three]]


def test_pages_that_came_in_another_order_than_they_were_written_are_no_restart() -> None:
    one, early, later = mark(10.0, 20, 20), mark(10.2, 18, 18), mark(15.0, 30, 30)
    assert lives([one, early, later]) == [[one, later]]
    unknown = [each._replace(started=0.0) for each in (one, early, later)]
    assert lives(unknown) == [[unknown[0], unknown[2]]]


def test_the_start_of_one_engine_may_read_a_little_differently() -> None:
    assert len(lives([mark(1.0, 1, 1), mark(2.0, 2, 2, started=1_000.4)])) == 1
