"""The job on a ledger of its own: what it corrects, what it calls drift, and that twice is once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.audit.auditor import REST_SECONDS, Auditor
from gateway.audit.drift import Standing, standings
from gateway.audit.examine import Terms, examine
from gateway.audit.verdict import WARM_UP_SECONDS
from gateway.ledger import audits
from gateway.ledger.audits import Audit
from gateway.ledger.record import Attempt, Reading
from gateway.ledger.sqlite import SqliteStore
from gateway.ledger.store import Batch, LedgerError
from tests.unit.gateway.audit.rows import ENGINE, attempt, broken_off, reading

EVERY = 3_600.0
ALARM = 0.001


@dataclasses.dataclass
class Desk:
    """A ledger, and an auditor that looks at it when told to."""

    store: SqliteStore
    path: Path

    def __post_init__(self) -> None:
        self.auditor = self.another()

    def another(self, store: SqliteStore | None = None) -> Auditor:
        return Auditor(lambda: store or self.store, EVERY, ALARM)

    def has(self, *kept: Attempt | Reading) -> None:
        self.store.write(
            Batch([one for one in kept if isinstance(one, Attempt)], [one for one in kept if isinstance(one, Reading)])
        )

    def audit(self, now: float, *, by: Auditor | None = None) -> float:
        """The worker's drift."""
        drift = (by or self.auditor).step(now, through=now)
        return drift.get("w", 0.0)

    @property
    def found(self) -> list[Audit]:
        with self.store.snapshot() as ledger:
            return audits.since(ledger, 0.0)

    def sums(self) -> tuple[int, int]:
        """Of all rows, and of the sums by the hour that are kept with them."""
        with self.store.snapshot() as ledger:
            (rows,) = ledger.rows("SELECT SUM(prompt_tokens), SUM(output_tokens) FROM entries")
            (kept,) = ledger.rows("SELECT SUM(prompt_tokens), SUM(output_tokens) FROM rollups")
        assert rows == kept
        return rows

    def corrections(self) -> int:
        with self.store.snapshot() as ledger:
            ((count,),) = ledger.rows("SELECT COUNT(*) FROM entries WHERE correction > 0")
        return count


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    store = SqliteStore(tmp_path / "ledger.db")
    yield Desk(store, tmp_path / "ledger.db")
    store.close()


def worked(desk: Desk) -> None:
    """From 2000 to 2010 one measured and one broken off, which the engine counted otherwise than it was estimated."""
    desk.has(
        reading(1_990.0, 1_000, 500),
        attempt(1, 2_000.0, 3.0, 40, 20),
        broken_off(2, 2_001.0, 4.0, 100, 10),
        reading(2_002.0, 1_040, 500, in_flight=2, running=2),
        reading(2_010.0, 1_127, 533),
    )


def test_an_estimate_becomes_what_the_engine_counted(desk: Desk) -> None:
    worked(desk)
    assert desk.audit(2_011.0) == 0.0
    assert desk.sums() == (127, 33)
    (found,) = desk.found
    assert found == Audit(
        "w", 1_990.0, 2_010.0, True, "", ENGINE, 1_127, 533,
        127, 33, 140, 30, -13, 3, 0, 0, 0, 0, 1, 0.0,
    )  # fmt: skip


def test_a_prompt_of_several_choices_is_no_drift(desk: Desk) -> None:
    """The engine counts it for each of them, the ledger once."""
    desk.has(
        reading(1_990.0, 0, 0),
        attempt(1, 2_000.0, 3.0, 40, 20, choices=3),
        attempt(2, 2_001.0, 3.0, 10, 5),
        reading(2_010.0, 130, 25),
    )
    assert desk.audit(1_990.0 + REST_SECONDS + 10) == 0.0
    (found,) = desk.found
    assert (found.engine_prompt, found.ledger_prompt, found.drift_prompt) == (130, 130, 0)
    assert desk.sums() == (50, 25)


def test_an_estimate_of_several_choices_becomes_what_the_engine_counted(desk: Desk) -> None:
    desk.has(
        reading(1_990.0, 0, 0),
        broken_off(1, 2_000.0, 3.0, 40, 20, choices=3, ttft_seconds=0.5),
        reading(2_010.0, 114, 33),
    )
    assert desk.audit(2_011.0) == 0.0
    assert desk.sums() == (38, 33)
    (found,) = desk.found
    assert (found.ledger_prompt, found.corrected_prompt, found.drift_prompt) == (120, -6, 0)
    desk.audit(2_012.0, by=desk.another())
    assert (desk.sums(), desk.corrections()) == ((38, 33), 1)


def test_twice_is_once(desk: Desk) -> None:
    worked(desk)
    desk.audit(2_011.0)
    kept = desk.found, desk.sums(), desk.corrections()
    desk.audit(2_012.0)
    desk.audit(2_013.0, by=desk.another())
    assert (desk.found, desk.sums(), desk.corrections()) == kept


class Dies(SqliteStore):
    """Corrects, and is gone before it can say so."""

    def change(self) -> object:  # type: ignore[override]
        raise LedgerError("gone")


def test_one_that_dies_between_its_corrections_and_its_word_for_them_does_no_harm(desk: Desk) -> None:
    worked(desk)
    dying = Dies(desk.path)
    with pytest.raises(LedgerError):
        desk.audit(2_011.0, by=desk.another(dying))
    dying.close()
    assert (desk.sums(), desk.corrections(), desk.found) == ((127, 33), 1, [])
    desk.audit(2_012.0)
    (found,) = desk.found
    assert (desk.sums(), desk.corrections()) == ((127, 33), 1)
    assert (found.ledger_prompt, found.corrected_prompt, found.drift_prompt) == (140, -13, 0)


def test_two_at_once_find_the_same_and_write_it_once(desk: Desk) -> None:
    worked(desk)
    terms = Terms(2_011.0, 2_011.0, None, False, {})
    with desk.store.snapshot() as ledger:
        one, other = examine(ledger, "w", terms), examine(ledger, "w", terms)
    assert one == other
    for found in (one, other):
        desk.store.write(Batch(found.corrections))
        with desk.store.change() as change:
            audits.add(change, found.audits)
    assert (desk.sums(), desk.corrections(), len(desk.found)) == ((127, 33), 1, 1)


def test_what_no_estimate_explains_is_drift(desk: Desk) -> None:
    """Somebody uses the worker past the gateways."""
    desk.has(reading(1_990.0, 0, 0), attempt(1, 2_000.0, 3.0, 600, 300), reading(2_010.0, 690, 310))
    assert desk.audit(1_990.0 + REST_SECONDS + 10) == pytest.approx(100 / 1_000)
    (found,) = desk.found
    assert (found.drift_prompt, found.drift_output, desk.corrections()) == (90, 10, 0)


def test_who_starts_an_engine_may_try_it(desk: Desk) -> None:
    late = ENGINE + WARM_UP_SECONDS
    desk.has(reading(1_001.0, 0, 0), reading(1_010.0, 2, 1), reading(late + 11, 2, 1), reading(late + 19, 4, 2))
    for now in (1_011.0, late + 12, late + REST_SECONDS + 20):
        desk.audit(now)
    assert sum(one.engine_prompt for one in desk.found) == 4
    assert [one.drift_prompt for one in desk.found if one.drift_prompt] == [2]


def test_what_the_ledger_has_too_much_is_drift_as_well(desk: Desk) -> None:
    desk.has(reading(1_990.0, 0, 0), attempt(1, 2_000.0, 3.0, 600, 400), reading(2_010.0, 600, 300))
    assert desk.audit(1_990.0 + REST_SECONDS + 10) == pytest.approx(100 / 1_000)
    assert desk.found[0].drift_output == -100


def test_each_span_corrects_its_own(desk: Desk) -> None:
    desk.has(
        reading(1_990.0, 0, 0),
        broken_off(1, 2_000.0, 1.0, 10, 5),
        reading(2_010.0, 12, 6),
        broken_off(2, 2_020.0, 1.0, 10, 5),
        reading(2_030.0, 20, 20),
    )
    desk.audit(2_031.0)
    with desk.store.snapshot() as ledger:
        rows = ledger.rows(
            "SELECT request_id, SUM(prompt_tokens), SUM(output_tokens) FROM entries GROUP BY 1 ORDER BY 1"
        )
    assert [row[1:] for row in rows] == [(12, 6), (8, 14)]


def test_an_engine_that_began_anew_begins_at_nothing(desk: Desk) -> None:
    desk.has(
        reading(1_990.0, 0, 0),
        attempt(1, 2_000.0, 1.0, 10, 5),
        reading(2_010.0, 10, 5),
        attempt(2, 2_012.0, 1.0, 70, 7),  # whose tokens went with the engine
        reading(2_050.0, 30, 3, engine_started=2_040.0, in_flight=1),
        broken_off(3, 2_045.0, 15.0, 28, 9),
        reading(2_070.0, 30, 11, engine_started=2_040.0),
    )
    assert desk.audit(2_071.0) == 0.0
    before, gap, after = desk.found
    assert (before.exact, before.engine_prompt, before.ledger_prompt) == (True, 10, 10)
    assert (gap.reason, gap.unobserved_seconds, gap.ledger_prompt, gap.drift_prompt) == ("restart", 30.0, 70, 0)
    assert (after.exact, after.started_at, after.engine_prompt, after.corrected_prompt) == (True, 2_040.0, 30, 2)


def test_an_engine_that_dies_at_work_is_compared_as_far_as_it_was_seen(desk: Desk) -> None:
    desk.has(
        reading(1_990.0, 0, 0),
        attempt(1, 2_000.0, 1.0, 10, 5),
        attempt(2, 2_005.0, 20.0, 100, 50, ttft_seconds=1.0),
        reading(2_010.0, 110, 20, in_flight=1, running=1),
        reading(2_050.0, 0, 0, engine_started=2_040.0),
    )
    desk.audit(2_051.0)
    seen, gap = [one for one in desk.found if not one.exact]
    assert (seen.reason, seen.engine_prompt, seen.ledger_prompt, seen.drift_prompt) == ("restart", 110, 110, 0)
    assert 0 < seen.slack_output <= 50
    assert (seen.drift_output, gap.unobserved_seconds) == (0, 30.0)


def test_one_that_is_never_quiet_is_audited_by_the_hour_and_exactly_when_it_is(desk: Desk) -> None:
    end = 1_990.0 + EVERY
    desk.has(reading(1_990.0, 0, 0), attempt(1, 2_000.0, EVERY + 50, 100, 60, ttft_seconds=1.0))
    desk.has(reading(end + 10, 160, 60, in_flight=1, running=1))
    assert desk.audit(end + 20) > 0.0  # 60 too many, for sure
    (rough,) = desk.found
    assert (rough.exact, rough.reason, rough.engine_prompt, rough.drift_prompt) == (False, "busy", 160, 60)
    desk.has(broken_off(2, end + 12, 1.0, 50, 1), reading(end + 100, 160, 61))
    assert desk.audit(end + 110) == 0.0  # for the other one's row has come meanwhile
    assert [(one.exact, one.drift_prompt) for one in desk.found] == [(False, 60), (True, 0)]


def test_a_worker_that_rests_is_no_news(desk: Desk) -> None:
    desk.has(*(reading(2_000.0 + second, 5, 5) for second in range(0, 200, 5)))
    desk.audit(2_001.0)
    desk.audit(2_200.0)
    assert len(desk.found) <= 1


def test_an_audit_says_how_far_it_got(desk: Desk) -> None:
    worked(desk)
    desk.audit(2_011.0)
    (standing,) = standings(desk.found).values()
    assert standing == Standing("w", 160, 170, -10, 0, 0, 1, 0.0, 2_010.0, 2_010.0)
    assert standing.ratio == 0.0
