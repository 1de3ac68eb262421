"""The embedded store against a model of it: bounded in bytes, least recently used out first, nothing after its time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.cache.entry import Entry
from gateway.cache.memory import OVERHEAD_BYTES, MemoryStore

KEYS = st.sampled_from([bytes([i]) * 4 for i in range(6)])
ROOM = 3 * (OVERHEAD_BYTES + 120)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def entry(size: int = 10) -> Entry:
    return Entry(b"x" * size, b"application/json", "m@v", "m", 1, 0, 2)


def got(store: MemoryStore, key: bytes) -> Entry | None:
    return asyncio.run(store.get(key))


def test_an_entry_comes_back_until_its_time_is_up() -> None:
    clock = Clock()
    store = MemoryStore(ROOM, clock=clock)
    store.put(b"k", entry(), 5.0)
    clock.now += 4.9
    assert got(store, b"k") == entry()
    clock.now += 0.1
    assert got(store, b"k") is None
    assert (len(store), store.size_bytes) == (0, 0)


def test_a_later_put_takes_the_place_of_the_first() -> None:
    store = MemoryStore(ROOM)
    store.put(b"k", entry(10), 5.0)
    size = store.size_bytes
    store.put(b"k", entry(20), 5.0)
    assert got(store, b"k") == entry(20)
    assert store.size_bytes == size + 10


def test_an_entry_above_the_bound_is_not_kept_and_costs_nobody_a_place() -> None:
    store = MemoryStore(ROOM)
    store.put(b"a", entry(), 5.0)
    store.put(b"b", entry(ROOM), 5.0)
    assert got(store, b"b") is None
    assert got(store, b"a") is not None


def test_no_time_to_live_means_not_kept() -> None:
    store = MemoryStore(ROOM)
    store.put(b"k", entry(), 0.0)
    assert len(store) == 0


def test_a_smaller_bound_takes_effect_at_once() -> None:
    store = MemoryStore(ROOM)
    for key in (b"a", b"b", b"c"):
        store.put(key, entry(), 5.0)
    store.resize(2 * OVERHEAD_BYTES)
    assert [got(store, key) is not None for key in (b"a", b"b", b"c")] == [False, False, True]


def test_nothing_is_left_after_close() -> None:
    store = MemoryStore(ROOM)
    store.put(b"k", entry(), 5.0)
    asyncio.run(store.close())
    assert (len(store), store.size_bytes) == (0, 0)


class AgainstAModel(RuleBasedStateMachine):
    """The model is an ordered dict of (entry, expiry), evicted from its front while it is too large."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.store = MemoryStore(ROOM, clock=self.clock)
        self.model: OrderedDict[bytes, tuple[Entry, float]] = OrderedDict()

    def model_size(self) -> int:
        return sum(
            OVERHEAD_BYTES + len(key) + len(kept.body) + len(kept.content_type) for key, (kept, _) in self.model.items()
        )

    @rule(key=KEYS, size=st.integers(0, 200), ttl=st.integers(1, 9))
    def put(self, key: bytes, size: int, ttl: int) -> None:
        self.store.put(key, entry(size), float(ttl))
        self.model.pop(key, None)
        self.model[key] = (entry(size), self.clock.now + ttl)
        while self.model_size() > ROOM:
            self.model.popitem(last=False)

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        expected = self.model.get(key)
        if expected is not None and expected[1] <= self.clock.now:
            del self.model[key]
            expected = None
        elif expected is not None:
            self.model.move_to_end(key)
        assert got(self.store, key) == (expected and expected[0])

    @rule(seconds=st.integers(1, 5))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds

    @invariant()
    def the_account_is_right_and_bounded(self) -> None:
        assert self.store.size_bytes == self.model_size() <= ROOM
        assert len(self.store) == len(self.model)


TestAgainstAModel = AgainstAModel.TestCase
TestAgainstAModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
