"""The ledger as the gateway sees it: said once, never waited for.

What is said of an attempt stands in the journal when the call returns, and a process that is killed right after has
lost nothing. Another process, the settler, brings journals into the database; how far it is, it says in a status file.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from typing import Final, NamedTuple

from gateway.ledger.journal.format import Kind
from gateway.ledger.journal.writer import Journal
from gateway.ledger.record import Attempt, Booking, Outcome, Reading

logger = logging.getLogger("tollgate.ledger")

_INTENT: Final[Kind] = "intent"
_CHECKPOINT: Final[Kind] = "checkpoint"
_SETTLE: Final[Kind] = "settle"
MOST_OWED = 20_000  # ends that wait in memory for room: more than can be under way when a journal becomes full


class Stats(NamedTuple):
    """Of this process."""

    recorded: int
    dropped: int  # found the journal full: they are in the log, whole
    owed: int  # found it full after their beginning had found a place: they wait in memory
    full: bool
    last_error: str


class Ledger:
    """`journal` None: nothing is recorded."""

    def __init__(self, journal: Journal | None, *, refuses: bool = False) -> None:
        """`refuses`: rather no request than one without its row."""
        self._journal = journal
        self._refuses = refuses
        self._recorded = 0
        self._dropped = 0
        self._owed: deque[Attempt] = deque()
        self._full_since = 0.0  # Unix seconds: no attempt that was opened later has its intent in the journal; 0 never

    @property
    def has_no_room(self) -> bool:
        """No new request should be begun."""
        journal = self._journal
        return journal is not None and self._refuses and journal.full

    def intend(self, attempt: Attempt) -> None:
        """Before a worker is asked. Where there is no room its end may find none either, and says so."""
        journal = self._journal
        if journal is None:
            return
        if self._owed:
            self._repay(journal)
        self._intended(journal.append(_INTENT, attempt), attempt.opened_at)

    def begin(
        self,
        booking: Booking,
        request_id: str,
        number: int,
        started_at: float,
        opened_at: float,
        prompt_tokens: int,
        cost_nanousd: int,
        choices: int,
    ) -> None:
        """`intend` of an attempt of which nothing else is known yet. Two thirds of its cost: no row is made."""
        journal = self._journal
        if journal is None:
            return
        if self._owed:
            self._repay(journal)
        fits = journal.begin(booking, request_id, number, started_at, opened_at, prompt_tokens, cost_nanousd, choices)
        self._intended(fits, opened_at)

    def checkpoint(self, attempt: Attempt) -> None:
        """What an attempt under way would come to if it ended now."""
        journal = self._journal
        if journal is not None:
            journal.append(_CHECKPOINT, attempt)

    def end(
        self,
        booking: Booking,
        request_id: str,
        number: int,
        started_at: float,
        opened_at: float,
        ttft: float | None,
        duration: float,
        outcome: Outcome,
        status: int,
        estimated: bool,
        prompt: int,
        cached: int,
        output: int,
        gpu_ns: int,
        cost: int,
        choices: int,
    ) -> bool:
        """`record` of a request's last attempt, without a row, as long as the journal takes it at once; False where it
        does not: nothing has happened then, and `record` is to be asked."""
        journal = self._journal
        if journal is None:
            return True
        if self._owed or journal.full:
            return False
        if not journal.end(
            booking,
            request_id,
            number,
            started_at,
            opened_at,
            ttft,
            duration,
            outcome,
            status,
            estimated,
            prompt,
            cached,
            output,
            gpu_ns,
            cost,
            choices,
        ):
            return False
        self._recorded += 1
        return True

    def record(self, attempt: Attempt) -> None:
        """Takes what an attempt came to into the books. Never waits and never fails.

        Where the journal is full, what began before has its end kept, in the journal or in memory: its beginning keeps
        a segment from being let go. What began later goes to the log, unless only what is under way is still served.
        """
        journal = self._journal
        if journal is None:
            return
        if self._owed:
            self._repay(journal)
        began_full = journal.full and not self._refuses and 0.0 < self._full_since <= attempt.opened_at
        if not began_full and journal.append(_SETTLE, attempt):
            self._recorded += 1
        elif not began_full and journal.full and len(self._owed) < MOST_OWED:
            self._owed.append(attempt)
        else:
            self._dropped += 1
            _lose(attempt, "the journal is full" if journal.full else "it fits no record")

    def read(self, reading: Reading) -> None:
        """Takes what was seen of a worker into the books."""
        journal = self._journal
        if journal is not None:
            if self._owed:
                self._repay(journal)
            journal.append_reading(reading)

    @property
    def source(self) -> str:
        """What this process is called in readings and by the settler."""
        return "" if self._journal is None else self._journal.name

    @property
    def stats(self) -> Stats:
        journal = self._journal
        if journal is None:
            return Stats(0, 0, 0, False, "")
        return Stats(self._recorded, self._dropped, len(self._owed), journal.full, journal.last_error)

    def close(self) -> None:
        """What was said stays; what still found no room goes to the log. Nothing may be said afterwards."""
        journal = self._journal
        if journal is None:
            return
        self._repay(journal)
        for attempt in self._owed:
            self._dropped += 1
            _lose(attempt, "the journal is full, and the gateway ends")
        self._owed.clear()
        journal.close()

    def _intended(self, fits: bool, opened_at: float) -> None:
        if fits:
            self._full_since = 0.0
        elif not self._full_since:
            self._full_since = opened_at

    def _repay(self, journal: Journal) -> None:
        while self._owed:
            if journal.append(_SETTLE, self._owed[0]):
                self._recorded += 1
            elif journal.full:
                return
            else:
                self._dropped += 1
                _lose(self._owed[0], "it fits no record")
            self._owed.popleft()


def _lose(attempt: Attempt, why: str) -> None:
    """Says what is lost so that it can be entered by hand: all of it, on one line."""
    fields = {**attempt._asdict(), "line": attempt.line._asdict(), "label": attempt.label._asdict()}
    logger.error("attempt lost, %s: %s", why, json.dumps(fields, default=repr))
