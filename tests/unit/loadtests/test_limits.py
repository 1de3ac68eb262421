"""The referee of `loadtests.limits`, on stories that are written here."""

from pathlib import Path

import pytest

from loadtests.limits import referee
from loadtests.limits.events import ADMITTED, FAILED, LAG, SETTLED, Event, Writer, read
from loadtests.limits.referee import Account, Story, Use


def admitted(at: float, lease: int, tenant: int = 0, tokens: int = 10, money: int = 100) -> Event:
    return Event(at, ADMITTED, tenant, lease, tokens, money)


def settled(at: float, lease: int, tenant: int = 0, tokens: int = 5, money: int = 50) -> Event:
    return Event(at, SETTLED, tenant, lease, tokens, money)


def test_events_are_read_as_they_were_written_and_half_a_record_is_not(tmp_path: Path) -> None:
    file = tmp_path / "events"
    story = [admitted(1.5, 1), settled(2.5, 1)]
    writer = Writer(file)
    for event in story:
        writer.write(event)
    with file.open("ab") as end:
        end.write(b"half")
    assert list(read(file)) == story
    assert list(read(tmp_path / "nothing")) == []


@pytest.mark.parametrize(
    ("moments", "over"),
    [
        ([0.0] * 60, 0),
        ([0.0] * 61, 1),
        ([*[0.0] * 60, 1.0], 0),
        ([*[0.0] * 60, 1.0, 1.5], 0.5),
        ([*[0.0] * 30, *[600.0] * 60], 0),
    ],
)
def test_a_minutes_worth_at_once_and_then_what_comes_free(moments: list[float], over: float) -> None:
    assert referee.most_over([Use(moment, 1) for moment in moments], 60) == pytest.approx(over)


def test_what_a_killed_process_had_reserved_counts_as_used() -> None:
    stories = [Story([admitted(1, 1), admitted(2, 2), settled(3, 1)], killed=4.0)]
    assert referee.used(stories, 0) == ([Use(3, 5), Use(4.0, 10)], [Use(3, 50), Use(4.0, 100)])
    assert referee.most_reserved(stories, 0) == 200


def test_what_was_admitted_alone_and_never_told() -> None:
    killed = Story([admitted(1, 1), admitted(6, 2), admitted(7, 3, tenant=1)], killed=7.5)
    assert referee.unheard([killed], 0, [(5.0, 7.0)]) == 1
    assert referee.unheard([killed], 0, [(5.0, 5.5), (8.0, 9.0)]) == 0


def test_requests_at_the_same_time_are_those_of_the_living() -> None:
    killed = Story([admitted(1, 1), admitted(2, 2)], killed=3.0)
    other = Story([admitted(2.5, 1), settled(5, 1), admitted(6, 2)], killed=9.0)
    assert referee.most_at_once([killed, other], 0) == 3
    later = Story([admitted(3.5, 1)], killed=9.0)
    assert referee.most_at_once([killed, later], 0) == 2
    assert referee.most_at_once([killed, later], 1) == 0


def test_what_is_checked() -> None:
    assert referee.within("requests", 0.4, 60, 0.5).holds
    assert not referee.within("requests", 1.0, 60, 0.5).holds
    uses = [Use(float(second), 1) for second in range(60)]
    assert referee.utilisation("requests", uses, 60, 0, 60).holds
    assert not referee.utilisation("requests", uses[::2], 60, 0, 60).holds
    assert referee.places(10, 10).holds
    assert not referee.places(11, 10).holds
    assert referee.money(10, 10).holds
    assert not referee.money(11, 10).holds
    assert referee.outstanding([Account("a", 0, 5)]).holds
    assert not referee.outstanding([Account("a", 0, 5), Account("b", 1, 5)]).holds
    assert referee.agreed(5, Account("a", 0, 6), 6).holds
    assert not referee.agreed(7, Account("a", 0, 6), 10).holds
    assert not referee.agreed(5, Account("a", 0, 7), 6).holds
    busy = Story([admitted(0, 1), settled(5, 1)], killed=9.0)
    assert "50.0%" in referee.places_used([busy], 0, 1, 0, 10).said
    assert referee.nothing_failed([busy], 0).holds
    assert not referee.nothing_failed([busy], 1).holds
    assert not referee.nothing_failed([Story([Event(1, FAILED, 0, 0, 0, 0)], 2.0)], 0).holds


def test_how_late_the_file_may_be() -> None:
    events = [Event(float(i), LAG, 0, i * 1_000, 0, 0) for i in range(10)]
    assert referee.lags([Story(events, 10.0)])[-1] == 0.009
    assert referee.late([]) == 0.0
