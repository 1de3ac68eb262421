"""Rows for tests of the journal."""

from __future__ import annotations

import math

from hypothesis import strategies as st

from gateway.ledger.journal.format import Entry, Said
from gateway.ledger.journal.reader import Tail
from gateway.ledger.journal.writer import Journal
from gateway.ledger.record import OUTCOMES, Attempt, Label, Line, Reading
from tests.attempts import LINE, attempt

SEGMENT = 4_096  # bytes: about 25 records
NEVER = 3_600.0  # seconds between two turns of the second thread
LABEL = Label("auto", "alice", '{"team": "search"}')
READING = Reading(1.79e9, "me", "w", "m", "v", 3_600, True, 5, 1, 2, 3, 0.25, 10, 20, 1.7e9)


def request_id(number: int) -> str:
    return f"req_{number:028x}"


def row(number: int = 1, **fields: object) -> Attempt:
    """A plausible attempt of request `number`; what a reader must give back shows in its numbers."""
    numbers = {"prompt_tokens": 100 + number, "cost_nanousd": 309_000 + number, "opened_at": 1_790_000_000.5}
    return attempt(request_id(number), **numbers)._replace(**{"line": LINE, "label": LABEL, **fields})


def segments(journal: Journal) -> list[str]:
    return sorted(path.name for path in journal.directory.glob("*.log"))


def records(tail: Tail) -> list[Entry | Reading]:
    """What is new."""
    found: list[Entry | Reading] = []
    while some := tail.read(100):
        found += [one.entry() if isinstance(one, Said) else one for one in some]
    return found


def attempts(tail: Tail) -> list[Attempt]:
    """Those of what is new."""
    return [one.attempt for one in records(tail) if isinstance(one, Entry)]


def numbers(tail: Tail) -> list[int]:
    """The requests of what is new."""
    return [int(one.request_id[4:], 16) for one in attempts(tail)]


_texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
_integers = st.integers(-(2**63), 2**63 - 1)
_finite = st.floats(allow_nan=False, allow_infinity=False)

lines = st.builds(Line, *[_texts] * 8, st.sampled_from(["gpu_time", "token_price", "none"]))
labels = st.builds(Label, _texts, _texts, _texts)
any_attempt = st.builds(
    Attempt,
    st.integers(0, 16**28 - 1).map(request_id),
    st.integers(0, 255),
    st.integers(0, 255),
    lines,
    labels,
    _finite,
    _finite,
    st.none() | _finite,
    _finite,
    st.sampled_from(OUTCOMES),
    st.integers(0, 65_535),
    st.booleans(),
    st.booleans(),
    *[_integers] * 5,
    st.just(1) | st.integers(1, 65_535),
)
readings = st.builds(
    Reading,
    _finite,
    *[_texts] * 4,
    _integers,
    st.booleans(),
    *[_integers] * 4,
    _finite,
    *[_integers] * 2,
    _finite,
).filter(lambda one: math.isfinite(one.at + one.kv_usage + one.engine_started))
kinds = st.sampled_from(["intent", "checkpoint", "settle"])
written = st.lists(st.tuples(kinds, any_attempt) | readings, max_size=12)
