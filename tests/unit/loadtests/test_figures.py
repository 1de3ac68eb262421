"""What the figures read off a run, and when they refuse to."""

from __future__ import annotations

import math

from loadtests.figures import FIGURES, QUICK, Effort, Figure, Number
from loadtests.peers import PEERS
from loadtests.procstat import descriptor_limit
from loadtests.run import Run


def figure_of(key: str) -> Figure:
    (one,) = (figure for figure in FIGURES if figure.key == key)
    return one


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
    paced = figure_of("paced")
    wanted = QUICK.streams * 50
    assert paced.complaint(Run(seconds=1.0, events=wanted), QUICK) is None
    complaint = paced.complaint(Run(seconds=1.0, events=wanted // 2), QUICK)
    assert complaint is not None
    assert "12,500 of 25,000" in complaint


def test_streams_that_were_not_open_are_not_counted_as_small() -> None:
    many = figure_of("many")
    assert many.complaint(Run(seconds=1.0, requests=9000), QUICK) is None
    assert many.complaint(Run(seconds=1.0, requests=8990), QUICK) == "10 of 9,000 streams were not open"
    assert number("many", "resident").read(Run(seconds=1.0, own_rss_after=123_000_000)) == 123.0


def test_a_machine_with_too_few_descriptors_says_so() -> None:
    many = figure_of("many")
    assert many.obstacle(Effort(1, 1.0, 1, many=10)) is None
    said = many.obstacle(Effort(1, 1.0, 1, many=descriptor_limit()))
    assert said is not None
    assert "descriptors in one process, the limit here is" in said


def test_variants_of_the_gateway_are_only_compared_with_it() -> None:
    included = {figure.key: [peer.name for peer in PEERS if figure.includes(peer)] for figure in FIGURES}
    assert included["processes"] == ["tollgate", "tollgate-2", "tollgate-pair"]
    assert included["many"] == ["tollgate"]
    assert [key for key, names in included.items() if "tollgate-2" in names] == ["processes"]
    assert included["ledger"] == ["tollgate", "tollgate-settler-apart", "tollgate-unledgered"]
    assert included["limits"] == ["tollgate", "tollgate-unlimited", "tollgate-redis"]
    others = {"tollgate-2", "tollgate-pair", "tollgate-unlimited", "tollgate-redis", "tollgate-unledgered"}
    assert set(included["throughput"]) == {peer.name for peer in PEERS} - others
