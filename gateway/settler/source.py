"""One journal on its way into the ledger."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from gateway.ledger.journal.format import Said
from gateway.ledger.journal.reader import Tail
from gateway.ledger.record import Attempt, Reading


class Source:
    """Keeps the attempts under way, and for each segment the last batch that something of it went into."""

    def __init__(self, directory: Path) -> None:
        self.name = directory.name
        self.tail = Tail(directory)
        self._last_seen = 0.0  # Unix seconds of the latest that has ended
        self._open: dict[bytes, tuple[int, Said]] = {}  # what was said last of each, and the segment it stands in
        self._batches: dict[int, int] = {}  # segment -> the last batch
        self._in_hand: set[int] = set()  # segments of what was read and is in no batch yet
        self._segment = 0
        self._read = 0  # settlements
        self._marks: deque[tuple[int, int]] = deque()  # batch, and how many settlements were read by then
        self._settled = 0

    def read(self, attempts: list[Attempt], readings: list[Reading], most: int) -> bool:
        """Adds what is to be written to the ledger, of what was appended since; False when there may be more than the
        `most` that fit into a batch."""
        while len(attempts) + len(readings) < most:
            found = self.tail.read(most - len(attempts) - len(readings))
            if not found:
                return True
            before = len(attempts) + len(readings)
            self._segment = segment = self.tail.segment
            for one in found:
                if isinstance(one, Reading):
                    self._last_seen = max(self._last_seen, one.at)
                    readings.append(one)
                elif one.is_end:
                    attempts.append(self._ended(one))
                else:
                    self._open[one.key] = segment, one
            if len(attempts) + len(readings) > before:
                self._in_hand.add(segment)
        return False

    def put(self, batch: int) -> None:
        """What is in hand went into this batch."""
        self._batches.update(dict.fromkeys(self._in_hand, batch))
        self._in_hand.clear()
        self._marks.append((batch, self._read))

    def crashed(self) -> list[Attempt]:
        """The attempts that were under way when the writer died, as far as their last checkpoint knows. The one with
        the highest number is its request's last."""
        under_way = sorted([one.attempt() for _, one in self._open.values()], key=_by_request)
        last: dict[str, int] = {}
        seen = self._last_seen
        for attempt in under_way:
            last[attempt.request_id] = attempt.number
            seen = max(seen, attempt.opened_at + attempt.duration_seconds)
        rows: list[Attempt] = []
        for attempt in under_way:
            lived = max(attempt.duration_seconds, seen - attempt.opened_at)
            duration = lived if attempt.outcome == "crashed" else attempt.duration_seconds
            final = attempt.number == last[attempt.request_id]
            rows.append(attempt._replace(final=final, duration_seconds=duration))
        return rows

    def release(self, settled: int) -> None:
        """Lets go of segments whose records are in the database (batches up to `settled`), and of whose attempts more
        was said since. What was said last of an attempt holds all that is to be known of it."""
        needed = [segment for segment, batch in self._batches.items() if batch > settled]
        needed += self._in_hand
        needed += [segment for segment, _ in self._open.values()]
        self.tail.release(min(needed, default=self._segment))
        self._batches = {segment: batch for segment, batch in self._batches.items() if batch > settled}
        while self._marks and self._marks[0][0] <= settled:
            self._settled = self._marks.popleft()[1]

    def is_settled(self, settled: int) -> bool:
        return not self._in_hand and all(batch <= settled for batch in self._batches.values())

    @property
    def settled(self) -> int:
        """Of the settlements its process ever appended, those that are in the database."""
        return self.tail.settled_before + self._settled

    @property
    def earliest(self) -> float | None:
        """When the earliest attempt under way began, Unix seconds."""
        return min((one.attempt().opened_at for _, one in self._open.values()), default=None)

    def _ended(self, said: Said) -> Attempt:
        attempt = said.attempt()
        self._read += 1
        if not attempt.correction:
            self._open.pop(said.key, None)
        ended = attempt.opened_at + attempt.duration_seconds
        if ended > self._last_seen:
            self._last_seen = ended
        return attempt


def _by_request(attempt: Attempt) -> tuple[str, int]:
    return attempt.request_id, attempt.number
