"""One journal on its way into the ledger."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

from gateway.ledger.journal.format import Entry
from gateway.ledger.journal.reader import Tail
from gateway.ledger.record import Attempt, Reading

_Key = tuple[str, int]  # request and number


class Source:
    """Keeps the attempts under way, and for each segment the last batch that something of it went into."""

    def __init__(self, directory: Path) -> None:
        self.name = directory.name
        self.tail = Tail(directory)
        self.last_seen = 0.0  # Unix seconds of the latest that was said
        self._open: dict[_Key, tuple[int, Attempt]] = {}  # with the segment of the last that was said
        self._batches: dict[int, int] = {}  # segment -> the last batch
        self._in_hand: set[int] = set()  # segments of what was read and is in no batch yet
        self._segment = 0
        self._read = 0  # settlements
        self._marks: deque[tuple[int, int]] = deque()  # batch, and how many settlements were read by then
        self._settled = 0

    def read(self) -> Iterator[Attempt | Reading]:
        """What is to be written to the ledger, of what was appended since."""
        for segment, record in self.tail.read():
            self._segment = segment
            if isinstance(record, Reading):
                self.last_seen = max(self.last_seen, record.at)
                self._in_hand.add(segment)
                yield record
                continue
            if (attempt := self._entry(record, segment)) is not None:
                self._in_hand.add(segment)
                yield attempt

    def put(self, batch: int) -> None:
        """What is in hand went into this batch."""
        self._batches.update(dict.fromkeys(self._in_hand, batch))
        self._in_hand.clear()
        self._marks.append((batch, self._read))

    def crashed(self) -> list[Attempt]:
        """The attempts that were under way when the writer died, as far as their last checkpoint knows. The one with
        the highest number is its request's last."""
        last: dict[str, int] = {}
        for request_id, number in self._open:
            last[request_id] = max(number, last.get(request_id, 0))
        rows: list[Attempt] = []
        for (request_id, number), (_, attempt) in sorted(self._open.items()):
            lived = max(attempt.duration_seconds, self.last_seen - attempt.opened_at)
            duration = lived if attempt.outcome == "crashed" else attempt.duration_seconds
            rows.append(attempt._replace(final=number == last[request_id], duration_seconds=duration))
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
        return min((attempt.opened_at for _, attempt in self._open.values()), default=None)

    def _entry(self, entry: Entry, segment: int) -> Attempt | None:
        attempt = entry.attempt
        key = attempt.request_id, attempt.number
        self.last_seen = max(self.last_seen, attempt.opened_at + attempt.duration_seconds)
        if entry.kind == "settle":
            self._read += 1
            if not attempt.correction:
                self._open.pop(key, None)
            return attempt
        self._open[key] = segment, attempt
        return None
