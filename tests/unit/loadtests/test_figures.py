"""What the figures read off a run, and when they refuse to."""

from __future__ import annotations

import math

from loadtests.drive import Run
from loadtests.figures import FIGURES, QUICK, Number


def number(figure: str, key: str) -> Number:
    (one,) = (n for f in FIGURES if f.key == figure for n in f.numbers if n.key == key)
    return one


def test_cpu_is_told_in_microseconds_per_piece() -> None:
    run = Run(seconds=2.0, requests=1000, events=50_000, cpu_seconds=1.0)
    assert number("throughput", "cpu_per_request").read(run) == 1000.0
    assert number("paced", "cpu_per_event").read(run) == 20.0
    assert math.isnan(number("paced", "cpu_per_event").read(Run(seconds=2.0, events=5)))


def test_memory_growth_is_told_in_megabytes() -> None:
    run = Run(seconds=1.0, rss_before=100_000_000, rss_after=142_500_000)
    assert number("idle", "memory_growth").read(run) == 42.5
    assert math.isnan(number("idle", "memory_growth").read(Run(seconds=1.0)))


def test_events_that_fell_behind_are_not_shown_as_cheap_ones() -> None:
    (paced,) = (figure for figure in FIGURES if figure.key == "paced")
    wanted = QUICK.streams * 50
    assert paced.complaint(Run(seconds=1.0, events=wanted), QUICK) is None
    complaint = paced.complaint(Run(seconds=1.0, events=wanted // 2), QUICK)
    assert complaint is not None
    assert "12,500 of 25,000" in complaint
