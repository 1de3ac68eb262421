"""What may be asked of a stand-in, and how nonsense is refused."""

from __future__ import annotations

import pytest

from loadtests.standin import INSTANT, Behaviour
from loadtests.standin.behaviour import FAULTS


def test_a_wish_changes_only_what_it_names() -> None:
    base = Behaviour(tokens=100, pace=0.02)
    assert base.changed({"tokens": 5}) == Behaviour(tokens=5, pace=0.02)
    assert base.changed({}) == base


@pytest.mark.parametrize("wish", [{"fault": "explode"}, {"tokens": 0}, {"pace": -1}, {"speed": 9}, {"after": "x"}, []])
def test_nonsense_is_refused(wish: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        INSTANT.changed(wish)


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_every_fault_can_be_asked_for(fault: str) -> None:
    behaviour = INSTANT.changed({"fault": fault})
    assert behaviour.fault == fault
    assert not behaviour.is_instant


def test_waiting_is_not_instant() -> None:
    assert INSTANT.is_instant
    assert not Behaviour(first_token_delay=0.1).is_instant
