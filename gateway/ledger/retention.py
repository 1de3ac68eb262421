"""How long rows of single attempts are kept. Sums by the hour and the bill are kept for good."""

from __future__ import annotations

from gateway.ledger.rollup import HOUR
from gateway.ledger.store import Snapshot, Store

# What is younger may still be delivered a second time, or await its share of a window.
LEAST = 2 * 86_400.0  # seconds
ROWS_PER_STEP = 2_000  # so that a batch never waits long for a step's end

_SAID = """
    UPDATE retention SET pruned_before = :before
    WHERE pruned_before < :before AND EXISTS (SELECT 1 FROM entries WHERE started_at < :before)
"""
_ENTRIES = """
    DELETE FROM entries WHERE (request_id, number, correction) IN (
        SELECT request_id, number, correction FROM entries WHERE started_at < :before ORDER BY started_at LIMIT :most
    )
"""
_READINGS = """
    DELETE FROM readings WHERE (worker, at, source) IN (
        SELECT worker, at, source FROM readings WHERE worker = :worker AND at < :before ORDER BY at LIMIT :most
    )
"""


def prune(store: Store, now: float, keep: float) -> int:
    """One step of removing attempts, and readings of workers, that are older than `keep` seconds: how many rows it
    removed. To be called again until that is 0. Raises LedgerError.

    It ends on a full hour, and says so before it begins: a report takes that time from the sums alone. Where no attempt
    is that old it says nothing: nothing is missing.
    """
    before = int((now - max(keep, LEAST)) // HOUR) * HOUR
    with store.change() as change:
        change.add(_SAID, [{"before": before}])
        removed = change.add(_ENTRIES, [{"before": before, "most": ROWS_PER_STEP}])
        if not removed:
            workers = change.rows("SELECT DISTINCT worker FROM lines WHERE worker <> ''")
            steps = [{"worker": str(name), "before": before, "most": ROWS_PER_STEP} for (name,) in workers]
            removed = change.add(_READINGS, steps) if steps else 0
    return removed


def pruned_before(ledger: Snapshot) -> int:
    """Unix seconds on a full hour: rows of attempts before it may be gone."""
    return int(ledger.rows("SELECT pruned_before FROM retention")[0][0])
