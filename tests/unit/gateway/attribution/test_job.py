"""The job on a real ledger: every window's cost shared out exactly, whatever comes late or fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.attribution.job import Attributor, Step, Terms
from gateway.attribution.split import Policy, cost_until
from gateway.ledger.record import Attempt, Reading
from gateway.ledger.sqlite import SqliteStore
from gateway.ledger.store import Batch, Change, LedgerError
from tests.attempts import attempt

HOURLY = 2_500_000_007  # nano-USD: no window's cost is a whole number of them
T0 = 1_790_000_040.0  # on a full minute
NS = 1_000_000_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "ledger.db")
    yield store
    store.close()


def reading(at: float, worker: str = "w", hourly: int = HOURLY, **fields: object) -> Reading:
    usual = Reading(at, "g1", worker, "chat-8b", "int4", hourly, True, 0, 1, 1, 0, 0.1, 0, 0, 0.0)
    return usual._replace(**fields)


def readings(start: float, end: float, every: float = 5.0, **fields: object) -> list[Reading]:
    return [reading(start + i * every, **fields) for i in range(int((end - start) / every) + 1)]


def request(number: int, opened: float, seconds: float = 4.0, **fields: object) -> Attempt:
    fields = {"worker": "w", "ttft_seconds": seconds / 4, "duration_seconds": seconds, **fields}
    return attempt(f"r{number}", opened_at=opened, started_at=opened, **fields)


def bill(store: SqliteStore) -> dict[str, int]:
    query = "SELECT tenant, SUM(cost_nanousd) FROM allocations JOIN lines ON lines.id = line GROUP BY tenant"
    with store.snapshot() as ledger:
        return {str(tenant): int(cost) for tenant, cost in ledger.rows(query)}


def cost(start: float, end: float, hourly: int = HOURLY) -> int:
    return cost_until(hourly, round(end * 1000) * 1_000_000) - cost_until(hourly, round(start * 1000) * 1_000_000)


def settle(attributor: Attributor, now: float, watermark: float | None = None) -> int:
    """Until nothing is left to do; the windows closed."""
    closed = 0
    while (step := attributor.step(now, now if watermark is None else watermark)).closed or step.reopened:
        closed += step.closed
    return closed


def whole(store: SqliteStore) -> None:
    """Every window's shares sum to its cost, and all of them to the bill."""
    with store.snapshot() as ledger:
        for worker, start, told in ledger.rows('SELECT worker, "start", cost_nanousd FROM windows'):
            query = 'SELECT SUM(cost_nanousd) FROM shares WHERE worker = :worker AND "start" = :start'
            assert ledger.rows(query, {"worker": worker, "start": start})[0][0] == told
        bills = ledger.rows("SELECT SUM(cost_nanousd) FROM allocations")[0][0]
        assert bills == ledger.rows("SELECT SUM(cost_nanousd) FROM windows")[0][0]


def test_a_worker_is_billed_from_its_first_reading_to_its_last_and_the_parts_sum(store):
    store.write(Batch([request(i, T0 + 7 * i, tenant="ab"[i % 2]) for i in range(60)], readings(T0 + 3, T0 + 603)))
    assert settle(Attributor(store, Terms()), T0 + 604) == 10
    assert sum(bill(store).values()) == cost(T0 + 3, T0 + 600)
    assert bill(store).keys() == {"a", "b", "__idle__"}
    whole(store)


def test_nothing_is_closed_before_the_watermark_nor_before_the_worker_was_seen_after_it(store):
    store.write(Batch([], readings(T0, T0 + 100)))
    attributor = Attributor(store, Terms())
    assert settle(attributor, T0 + 101, watermark=T0 + 59) == 0
    assert settle(attributor, T0 + 101, watermark=T0 + 101) == 1
    assert settle(attributor, T0 + 115, watermark=T0 + 115) == 0
    assert sum(bill(store).values()) == cost(T0, T0 + 60)


def test_a_worker_that_goes_is_billed_to_its_last_reading_and_the_time_until_it_comes_back_is_unobserved(store):
    store.write(Batch([], readings(T0, T0 + 100)))
    attributor = Attributor(store, Terms())
    settle(attributor, T0 + 200)
    assert bill(store) == {"__idle__": cost(T0, T0 + 100)}
    settle(attributor, T0 + 5_000)
    assert bill(store) == {"__idle__": cost(T0, T0 + 100)}
    store.write(Batch([], readings(T0 + 300, T0 + 400)))
    settle(attributor, T0 + 420)
    idle = cost(T0, T0 + 100) + cost(T0 + 300, T0 + 360)
    assert bill(store) == {"__idle__": idle, "__unobserved__": cost(T0 + 100, T0 + 300)}
    whole(store)


def test_another_rate_splits_a_window(store):
    store.write(Batch([], [*readings(T0, T0 + 25), *readings(T0 + 30, T0 + 60, hourly=7 * HOURLY)]))
    settle(Attributor(store, Terms()), T0 + 61)
    assert bill(store) == {"__idle__": cost(T0, T0 + 30) + cost(T0 + 30, T0 + 60, 7 * HOURLY)}
    with store.snapshot() as ledger:
        assert ledger.rows('SELECT "start", "end" FROM windows ORDER BY 1') == [(T0, T0 + 30), (T0 + 30, T0 + 60)]


def test_hosted_workers_have_no_bill(store):
    store.write(Batch([request(1, T0 + 1)], readings(T0, T0 + 300, hourly=0)))
    assert settle(Attributor(store, Terms()), T0 + 301) == 0
    assert bill(store) == {}


def test_what_comes_late_reopens_its_windows_and_the_sum_stays(store):
    store.write(Batch([request(i, T0 + 10 * i) for i in range(12)], readings(T0, T0 + 180)))
    attributor = Attributor(store, Terms())
    settle(attributor, T0 + 181)
    before = bill(store)
    late = request(100, T0 + 55, seconds=30.0, tenant="late", outcome="crashed", output_tokens=400)
    store.write(Batch([late]))
    assert attributor.step(T0 + 200, T0 + 200).reopened == 2
    after = bill(store)
    assert after["late"] > 0
    assert after["__idle__"] < before["__idle__"]
    assert sum(after.values()) == sum(before.values())
    whole(store)
    assert attributor.step(T0 + 200, T0 + 200) == Step(0, 0, T0 + 180)


def test_a_correction_counts_as_a_part_of_its_attempt(store):
    mixed = [request(1, T0 + 1, tenant="a"), request(2, T0 + 1, tenant="b")]
    store.write(Batch(mixed, readings(T0, T0 + 60)))
    attributor = Attributor(store, Terms())
    settle(attributor, T0 + 61)
    assert bill(store)["a"] == pytest.approx(bill(store)["b"], abs=1)
    more = mixed[0]._replace(correction=1, prompt_tokens=4_000, cached_tokens=0, output_tokens=0, duration_seconds=0.0)
    store.write(Batch([more]))
    settle(attributor, T0 + 62)
    assert bill(store)["a"] > 1.5 * bill(store)["b"]
    whole(store)


def test_late_or_in_time_is_the_same_bill(store, tmp_path):
    some = [request(i, T0 + 3 * i, seconds=9.0, tenant="abc"[i % 3]) for i in range(50)]
    store.write(Batch(some[::2], readings(T0, T0 + 180)))
    attributor = Attributor(store, Terms())
    settle(attributor, T0 + 181)
    store.write(Batch(some[1::2]))
    settle(attributor, T0 + 182)
    other = SqliteStore(tmp_path / "other.db")
    other.write(Batch(some, readings(T0, T0 + 180)))
    settle(Attributor(other, Terms()), T0 + 181)
    assert sum(bill(store).values()) == sum(bill(other).values())
    for tenant, amount in bill(other).items():
        assert bill(store)[tenant] == pytest.approx(amount, rel=0.02)  # the coefficients became better meanwhile
    other.close()


def test_another_process_goes_on_where_one_was_killed(store):
    store.write(Batch([request(i, T0 + 7 * i) for i in range(60)], readings(T0, T0 + 600)))
    first = Attributor(store, Terms())
    assert first._close("w", round(T0 * 1000), T0 + 601, T0 + 200) == round((T0 + 60) * 1000)
    assert settle(Attributor(store, Terms()), T0 + 601) == 9
    assert sum(bill(store).values()) == cost(T0, T0 + 600)
    whole(store)


def test_an_attempt_pays_in_every_window_it_was_in_whoever_closes_them(store):
    long = request(1, T0 + 10, seconds=150.0, tenant="long")
    store.write(Batch([long, request(2, T0 + 1, tenant="a")], readings(T0, T0 + 180)))
    for minute in (1, 2, 3):
        before = bill(store).get("long", 0)
        settle(Attributor(store, Terms()), T0 + 181, watermark=T0 + 60 * minute)
        assert bill(store)["long"] > before
    whole(store)


def test_what_comes_late_pays_in_the_windows_that_are_still_open_too(store):
    store.write(Batch([request(1, T0 + 1)], readings(T0, T0 + 180)))
    attributor = Attributor(store, Terms())
    settle(attributor, T0 + 181, watermark=T0 + 60)
    store.write(Batch([request(2, T0 + 50, seconds=60.0, tenant="late")]))
    settle(attributor, T0 + 181, watermark=T0 + 60)
    early = bill(store)["late"]
    settle(attributor, T0 + 181)
    assert bill(store)["late"] > 2 * early > 0
    whole(store)


class Failing(SqliteStore):
    """Fails at the nth statement that adds something."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.left = -1

    def change(self):
        from contextlib import contextmanager

        @contextmanager
        def change() -> Iterator[Change]:
            with SqliteStore.change(self) as inner:
                yield Counting(self, inner)

        return change()


class Counting:
    def __init__(self, store: Failing, inner: Change) -> None:
        self.store, self.rows, self.stream, self._inner = store, inner.rows, inner.stream, inner

    def add(self, statement, rows):
        if self.store.left == 0:
            self.store.left = -1
            raise LedgerError("away")
        self.store.left -= 1
        return self._inner.add(statement, rows)


def test_a_failure_at_any_statement_leaves_nothing_half_done(tmp_path):
    store = Failing(tmp_path / "ledger.db")
    some = [request(i, T0 + 7 * i, tenant="ab"[i % 2]) for i in range(40)]
    store.write(Batch(some[:30], readings(T0, T0 + 300)))
    attributor = Attributor(store, Terms())
    failures = 0
    for left in range(60):
        store.left = left % 20
        if left == 40:
            store.write(Batch(some[30:]))
        try:
            attributor.step(T0 + 301, T0 + 301)
        except LedgerError:
            failures += 1
        whole(store)
    store.left = -1
    settle(attributor, T0 + 301)
    assert failures > 5
    assert sum(bill(store).values()) == cost(T0, T0 + 300)
    store.close()


def test_fits_are_written_down_and_read_again(store):
    store.write(Batch([request(i, T0 + 3 * i, output_tokens=5 + i % 50) for i in range(200)], readings(T0, T0 + 660)))
    settle(Attributor(store, Terms(gpus={"w": "l4"})), T0 + 661)
    with store.snapshot() as ledger:
        rows = ledger.rows("SELECT model, version, gpu, n, a0 FROM fits ORDER BY at")
    assert rows
    assert rows[-1][:3] == ("chat-8b", "int4", "l4")
    again = Attributor(store, Terms(gpus={"w": "l4"}))
    again.step(T0 + 662, T0 + 662)
    assert next(iter((again._coefficients or {}).values())).a0 == rows[-1][4]


def test_idle_time_by_reservation(store):
    store.write(Batch([request(1, T0 + 1)], readings(T0, T0 + 60)))
    settle(Attributor(store, Terms(policy=Policy("by_reservation", {"a": 0.5, "b": 0.25}))), T0 + 61)
    found = bill(store)
    assert found["a"] == pytest.approx(2 * found["b"], abs=2)
    assert found["__idle__"] == pytest.approx(found["b"], abs=2)
    assert sum(found.values()) == cost(T0, T0 + 60)


def test_two_that_write_the_bill_write_it_once(store):
    store.write(Batch([request(1, T0 + 1)], readings(T0, T0 + 300)))
    one, other = Attributor(store, Terms()), Attributor(store, Terms())
    [(worker, through)] = one._workers()
    settle(other, T0 + 301)
    assert one._close(worker, through, T0 + 301, T0 + 301) == round((T0 + 300) * 1000)
    assert settle(one, T0 + 301) == 0
    whole(store)
    assert sum(bill(store).values()) == cost(T0, T0 + 300)
