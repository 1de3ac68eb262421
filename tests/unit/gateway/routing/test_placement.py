"""Who holds which adapter."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.routing.placement import (
    BACKOFF_SECONDS,
    LONGEST_BACKOFF_SECONDS,
    REQUESTS_PER_REPLICA,
    SPILL,
    Placement,
    Shelf,
    engine_name,
    read_engine_name,
    replicas,
)

NAMES = [f"a{number}" for number in range(6)]
WANTED = {name: engine_name("tiny", name, "1") for name in NAMES}


def placement(*workers: str, room: int = 2, wanted: dict[str, str] | None = None) -> Placement:
    made = Placement()
    members = {worker: Shelf(room, WANTED if wanted is None else wanted) for worker in workers}
    for shelf in members.values():
        shelf.placement = made
    made.renew(members)
    return made


def homes(made: Placement, adapter: str) -> list[str]:
    return [worker for shelf in made.homes(adapter) for worker, member in made.members.items() if member is shelf]


def busy(made: Placement, adapter: str, requests: int, seconds: float) -> None:
    made.observe({adapter: requests} if requests else {}, seconds)


def test_adapters_are_spread_evenly_and_the_same_everywhere() -> None:
    workers = [f"w{number}" for number in range(10)]
    wanted = {f"a{number}": "" for number in range(2000)}
    one, other = placement(*workers, wanted=wanted), placement(*reversed(workers), wanted=wanted)
    found = {adapter: homes(one, adapter) for adapter in wanted}
    assert found == {adapter: homes(other, adapter) for adapter in wanted}
    counts = Counter(worker for each in found.values() for worker in each)
    assert min(counts.values()) > 150
    assert max(counts.values()) < 250


@given(st.integers(2, 12), st.integers(0, 11), st.integers(1, 4))
def test_a_worker_that_leaves_moves_only_what_it_held(count: int, leaving: int, k: int) -> None:
    workers = [f"w{number}" for number in range(count)]
    gone = workers[leaving % count]
    wanted = {f"a{number}": "" for number in range(30)}
    made = placement(*workers, wanted=wanted)
    for adapter in wanted:
        busy(made, adapter, int(k * REQUESTS_PER_REPLICA), 1e6)
    before = {adapter: homes(made, adapter) for adapter in wanted}
    made.renew({worker: shelf for worker, shelf in made.members.items() if worker != gone})
    for adapter, held in before.items():
        after = homes(made, adapter)
        assert [worker for worker in held if worker != gone] == after[: len([w for w in held if w != gone])]
        assert len(after) == min(len(held), count - 1)


@given(st.integers(1, 50), st.floats(0, 1e4), st.integers(1, 50))
def test_replicas_are_enough_and_no_more_than_there_are_workers(now: int, demand: float, most: int) -> None:
    count = replicas(min(now, most), demand, most)
    assert 1 <= count <= most
    assert count == most or count * REQUESTS_PER_REPLICA >= demand


@given(st.integers(1, 50), st.floats(0, 1e4), st.integers(1, 50))
def test_replicas_at_rest_do_not_change(now: int, demand: float, most: int) -> None:
    once = replicas(min(now, most), demand, most)
    assert replicas(once, demand, most) == once


def test_demand_brings_homes_and_its_end_takes_them_away() -> None:
    made = placement("w1", "w2", "w3")
    assert len(made.homes("a0")) == 1
    for _ in range(20):
        busy(made, "a0", 20, 1.0)
    assert len(made.homes("a0")) == 3
    assert made.in_demand() == ["a0"]
    for _ in range(200):
        busy(made, "a0", 0, 1.0)
    assert len(made.homes("a0")) == 1
    assert made.in_demand() == []


def test_where_it_could_not_be_loaded_others_are_asked_but_not_all() -> None:
    made = placement("w1", "w2", "w3", "w4", "w5")
    tried: list[str] = []
    while found := homes(made, "a0"):
        (worker,) = found
        shelf = made.members[worker]
        assert shelf.refuses("a0") is None
        shelf.failed(WANTED["a0"], "a0", "no such file", 0.0)
        made.forget("a0")
        assert shelf.refuses("a0") == "adapter_failed"
        tried.append(worker)
    assert len(tried) == 1 + SPILL
    assert {shelf.refuses("a0") for shelf in made.members.values()} == {"adapter_failed", "adapter_elsewhere"}
    assert len(made.homes("a1")) == 1


def test_a_failure_is_held_against_it_longer_each_time_and_ends_with_a_success() -> None:
    (shelf,) = placement("w1").members.values()
    now = 0.0
    for times in range(12):
        until = shelf.failed(WANTED["a0"], "a0", "why", now).until
        assert until - now == min(LONGEST_BACKOFF_SECONDS, BACKOFF_SECONDS * 2**times)
        assert shelf.recover(until - 0.1) == []
        assert shelf.refuses("a0") == "adapter_failed"
        assert shelf.recover(until) == ["a0"]
        assert shelf.failure("a0") is None
        now = until
    shelf.begin(WANTED["a0"], "a0", now)
    shelf.loaded(WANTED["a0"], 1.0, now)
    assert shelf.failures == {}


def test_a_new_version_is_not_to_blame_for_the_old_one() -> None:
    wanted = dict(WANTED)
    (shelf,) = placement("w1", wanted=wanted).members.values()
    shelf.failed(wanted["a0"], "a0", "why", 0.0)
    wanted["a0"] = engine_name("tiny", "a0", "2")
    assert shelf.refuses("a0") is None
    assert shelf.failed(wanted["a0"], "a0", "why", 0.0).times == 1


def test_another_version_is_another_name_and_the_old_one_goes_first() -> None:
    wanted = dict(WANTED)
    (shelf,) = placement("w1", wanted=wanted).members.values()
    for at, adapter in enumerate(("a0", "a1")):
        shelf.begin(wanted[adapter], adapter, float(at))
        assert adapter not in shelf.names()
        shelf.loaded(wanted[adapter], 0.5, float(at))
    assert shelf.names() == {"a0": "tiny:a0@1", "a1": "tiny:a1@1"}
    wanted["a1"] = engine_name("tiny", "a1", "2")
    assert shelf.names() == {"a0": "tiny:a0@1"}
    victim = shelf.victim()
    assert victim is not None
    assert victim.name == "tiny:a1@1"


def test_a_load_costs_what_loads_took_and_more_where_it_has_to_wait() -> None:
    (shelf,) = placement("w1", room=1).members.values()
    prior = shelf.seconds_to_load()
    shelf.begin(WANTED["a0"], "a0", 0.0)
    assert shelf.seconds_to_load() > prior
    shelf.loaded(WANTED["a0"], 0.25, 0.0)
    assert shelf.seconds_to_load() == 0.25
    shelf.enter(WANTED["a0"])
    assert shelf.seconds_to_load() > 0.25


def test_what_the_worker_was_started_with_takes_room_and_is_used_as_it_is() -> None:
    (shelf,) = placement("w1").members.values()
    shelf.adopt({"sql": "tiny:sql"}, {"tiny:a0@1": "a0", "tiny:a9@1": "a9"}, 5.0)
    assert shelf.names() == {"sql": "tiny:sql", "a0": "tiny:a0@1"}
    assert shelf.free == -1
    victim = shelf.victim()
    assert victim is not None
    assert victim.name == "tiny:a9@1"  # nobody wants it
    shelf.adopt({"sql": "tiny:sql", "x": "x"}, {}, 6.0)
    assert shelf.names().keys() == {"sql", "x"}
    assert shelf.refuses("a0") == "adapter_missing"


def test_what_the_engine_lost_goes_but_not_what_was_loaded_since() -> None:
    (shelf,) = placement("w1").members.values()
    name = WANTED["a0"]
    shelf.begin(name, "a0", 1.0)
    shelf.loaded(name, 0.5, 2.0)
    shelf.enter(name)
    shelf.leave(name, 9.0)  # use is no sign that it was there later
    shelf.lost(name, 3.0)
    assert shelf.names() == {}
    shelf.lost(name, 3.0)
    shelf.begin(name, "a0", 4.0)
    shelf.lost(name, 3.0)
    shelf.lost(name, 5.0)  # it is on its way
    shelf.loaded(name, 0.5, 6.0)
    shelf.lost(name, 5.0)
    assert shelf.names() == {"a0": name}
    shelf.lost(name, 6.5)
    assert shelf.names() == {}
    shelf.loaded(name, 0.5, 7.0)
    assert shelf.names() == {}


def test_a_first_failure_is_a_doubt_everywhere_and_a_second_is_the_workers_own() -> None:
    made = placement("w1", "w2")
    one = made.members["w1"]
    assert made.doubt("a0") is None
    failure = one.failed(WANTED["a0"], "a0", "why", 0.0)
    assert made.doubt("a0") is failure
    assert made.doubt("a1") is None
    one.recover(failure.until)
    assert made.doubt("a0") is None
    one.failed(WANTED["a0"], "a0", "why", failure.until)
    assert made.doubt("a0") is None
    made.members["w2"].failed(WANTED["a1"], "a1", "it cannot be reached", 0.0, is_said=False)
    assert made.doubt("a1") is None


@pytest.mark.parametrize("name", ["tiny", "tiny:a0", "other:a0@1", "tiny:@1", "tiny:a0@", "tiny@v1:a0", ""])
def test_other_names_are_not_ours(name: str) -> None:
    assert read_engine_name(name, "tiny") is None


def test_a_name_is_read_as_it_was_made() -> None:
    assert read_engine_name(engine_name("org/tiny", "a0", "abc"), "org/tiny") == ("a0", "abc")


class ShelfMachine(RuleBasedStateMachine):
    """Loads, unloads and requests in any order: never more than there is room for, and nothing in use goes."""

    def __init__(self) -> None:
        super().__init__()
        (self.shelf,) = placement("w1", room=3).members.values()
        self.now = 0.0
        self.last_used: dict[str, float] = {}

    def tick(self) -> float:
        self.now += 1.0
        return self.now

    @rule(adapter=st.sampled_from(NAMES))
    def load(self, adapter: str) -> None:
        name = WANTED[adapter]
        if name in self.shelf.residents:
            return
        if self.shelf.free <= 0:
            victim = self.shelf.victim()
            if victim is None:
                return
            assert victim.name not in self.shelf.using
            idle = [one for one in self.shelf.residents if one not in self.shelf.using]
            assert self.last_used[victim.name] == min(self.last_used[one] for one in idle)
            self.shelf.gone(victim.name)
        now = self.tick()
        self.shelf.begin(name, adapter, now)
        self.shelf.loaded(name, 0.1, now)
        self.last_used[name] = now

    @precondition(lambda self: self.shelf.residents)
    @rule(data=st.data())
    def enter(self, data: st.DataObject) -> None:
        self.shelf.enter(data.draw(st.sampled_from(sorted(self.shelf.residents))))

    @precondition(lambda self: self.shelf.using)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.shelf.using)))
        now = self.tick()
        self.shelf.leave(name, now)
        self.last_used[name] = now

    @invariant()
    def is_sound(self) -> None:
        assert len(self.shelf.residents) <= self.shelf.room
        assert self.shelf.using.keys() <= self.shelf.residents.keys()
        assert all(count > 0 for count in self.shelf.using.values())


TestShelf = ShelfMachine.TestCase
