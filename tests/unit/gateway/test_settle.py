"""The end of a request: each account gets its entry once, whatever the request came to."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from gateway.errors import GatewayError, InternalError, NotFound, Overloaded, WorkerBroke, WorkerFailed, WorkerRefused
from gateway.fleet.backend import Backend
from gateway.ledger.record import Attempt, Booking
from gateway.logs import LogWriter
from gateway.protocol.usage import Usage
from gateway.settle import CHECKPOINT_SECONDS, Settlement
from gateway.table import Price
from gateway.telemetry import Metrics
from gateway.trace import Trace
from tests.unit.gateway.stories import Transport, backend, dispatch, exchange, trace

USAGE = Usage(24, 3, 16)


class Intent(NamedTuple):
    """What the ledger is told before a worker is asked."""

    booking: Booking
    request_id: str
    number: int
    started_at: float
    opened_at: float
    prompt_tokens: int
    cost_nanousd: int
    choices: int


class Books:
    """A ledger, a lease and a log that remember."""

    def __init__(self) -> None:
        self.intents: list[Intent] = []
        self.checkpoints: list[Attempt] = []
        self.rows: list[Attempt] = []
        self.leases: list[tuple[int, int]] = []
        self.metrics = Metrics()
        reading, writing = os.pipe()
        self._reading, self._writing = os.fdopen(reading, "rb"), os.fdopen(writing, "wb")
        self._log = LogWriter(writing)
        self.settlement = Settlement(self, self.metrics, self._log, None)  # type: ignore[arg-type]

    headers: list[tuple[bytes, bytes]] = []  # noqa: RUF012 - what a lease has

    def begin(self, *said: Any) -> None:
        self.intents.append(Intent(*said))

    def end(self, *_: Any) -> bool:
        return False  # a row, please

    def checkpoint(self, attempt: Attempt) -> None:
        self.checkpoints.append(attempt)

    def record(self, attempt: Attempt) -> None:
        self.rows.append(attempt)

    def settle(self, tokens: int, cost: int, now: float, arrived: float) -> None:
        self.leases.append((tokens, cost))

    def line(self) -> dict[str, Any]:
        """The only line of the log; ends it."""
        self._log.close()
        self._writing.close()
        (line,) = self._reading.read().splitlines()
        return json.loads(line)

    def close(self) -> None:
        self._log.close()
        self._writing.close()
        self._reading.close()

    def counted(self, name: str) -> float:
        self.metrics.pour()
        return sum(
            sample.value
            for family in self.metrics.registry.collect()
            for sample in family.samples
            if sample.name == name
        )


@pytest.fixture
def books() -> Iterator[Books]:
    books = Books()
    yield books
    books.close()


def story(books: Books, change: Callable[[Trace], None], **fields: Any) -> Trace:
    """Settles a request on one worker after `change` has happened to it."""

    async def run() -> Trace:
        made = trace(exchange(Transport()), on=backend(), lease=books, **fields)  # type: ignore[arg-type]
        change(made)
        books.settlement.settle(made)
        return made

    return asyncio.run(run())


def answered(made: Trace) -> None:
    assert made.dispatch is not None
    made.usage, made.measured, made.exchange.status = USAGE, True, 200
    made.dispatch.close("ok", USAGE)


def cut_after_its_end(made: Trace) -> None:
    """The client has the whole stream; the gateway stopped before the worker had closed it."""
    made.first_at, made.exchange.status, made.exchange.response_complete = 1.0, 200, True
    made.usage, made.measured = USAGE, True


def fails(error: GatewayError, status: int) -> Callable[[Trace], None]:
    def change(made: Trace) -> None:
        made.error, made.exchange.status = error, status

    return change


def left(made: Trace) -> None:
    made.exchange.disconnected = True


def left_streaming(made: Trace) -> None:
    made.exchange.disconnected, made.exchange.status = True, 200
    made.first_at, made.tokens = 1.0, 9


def cut(made: Trace) -> None:
    made.first_at, made.tokens, made.exchange.status = 1.0, 9, 200
    made.error = Overloaded("The gateway is shutting down.")


def broke(made: Trace) -> None:
    assert made.dispatch is not None
    made.first_at, made.tokens, made.exchange.status = 1.0, 9, 200
    made.usage = Usage(24, 3, 0)
    made.error = WorkerBroke("gone")
    made.dispatch.close("broken", Usage(24, 3, 9))


def again(books: Books, made: Trace) -> None:
    """A second attempt, on another worker."""
    assert made.admitted is not None
    made.dispatch, made.asked = dispatch(backend(), number=2), 2
    books.settlement.begun(made, made.admitted, made.dispatch)


ENDINGS: dict[str, tuple[Callable[[Trace], None], str, int, Usage, bool, str]] = {
    "answered": (answered, "ok", 200, USAGE, False, "info"),
    "cut off after its end": (cut_after_its_end, "ok", 200, USAGE, False, "info"),
    "refused by the engine": (
        fails(WorkerRefused(400, "no", type="t", param=None, code=None), 400),
        *("rejected", 400, Usage(0, 0, 0), False, "info"),
    ),
    "failed by the engine": (fails(WorkerFailed("no"), 502), "failed", 502, Usage(0, 0, 0), False, "warning"),
    "no room": (fails(Overloaded("no"), 503), "failed", 503, Usage(0, 0, 0), False, "warning"),
    "failed by us": (fails(InternalError("no"), 500), "failed", 500, Usage(0, 0, 0), False, "warning"),
    "left": (left, "aborted", 0, Usage(100, 0, 0), True, "info"),
    "left in a stream": (left_streaming, "aborted", 200, Usage(100, 0, 9), True, "info"),
    "cut off in a stream": (cut, "broken", 200, Usage(100, 0, 9), True, "warning"),
    "broke in a stream": (broke, "broken", 200, Usage(24, 3, 9), True, "warning"),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending(ending: str, books: Books) -> None:
    change, outcome, status, usage, estimated, level = ENDINGS[ending]
    made = story(books, change)
    (row,) = books.rows
    assert (row.outcome, row.status, row.estimated) == (outcome, status, estimated)
    assert Usage(row.prompt_tokens, row.cached_tokens, row.output_tokens) == usage
    line = row.line
    assert (row.attempt_id, row.request_id, line.tenant, line.key_id) == ("req_1.1", "req_1", "ann", "k1")
    assert (line.model, line.version, line.route, line.worker) == ("chat", "a", "direct", "w0")
    assert row.final
    assert (row.cost_nanousd > 0) == (outcome in ("ok", "aborted", "broken"))
    assert books.leases == [(usage.prompt_tokens + usage.output_tokens, row.cost_nanousd)]
    assert books.counted("tollgate_requests_total") == 1
    assert books.counted("tollgate_attempts_total") == 1
    assert books.counted("tollgate_tokens_total") == sum(usage)
    assert made.dispatch is not None
    assert made.dispatch.backend.inflight == 0
    said = books.line()
    assert (said["outcome"], said["status"], said["level"]) == (outcome, status or 499, level)
    assert said["estimated"] == estimated


def under_way(books: Books, change: Callable[[Trace], None], *, on: Backend | None = None) -> None:
    """A request whose attempt is on a worker, while `change` looks at it."""

    async def run() -> None:
        change(trace(exchange(Transport()), on=on or backend(), lease=books))  # type: ignore[arg-type]

    asyncio.run(run())


def test_an_intent_says_what_is_known_before_a_worker_is_asked(books: Books) -> None:
    under_way(books, lambda made: again(books, made))
    (intent,) = books.intents
    assert (intent.request_id, intent.number) == ("req_1", 2)
    assert (intent.prompt_tokens, intent.cost_nanousd, intent.choices) == (100, 0, 1)
    assert (intent.booking.line.worker, intent.booking.label.model_asked) == ("w0", "chat")
    assert abs(intent.opened_at - time.time()) < 60


def test_how_many_choices_were_asked_for_is_said_from_the_beginning_to_the_end(books: Books) -> None:
    def tell(made: Trace) -> None:
        assert made.admitted is not None
        assert made.dispatch is not None
        books.settlement.begun(made, made.admitted, made.dispatch)
        books.settlement.checkpoint(made, made.dispatch, 64, None)
        answered(made)

    story(books, tell, n=3)
    said = books.intents[0].choices, books.checkpoints[0].choices, books.rows[0].choices
    assert said == (3, 3, 3)
    assert books.rows[0].prompt_tokens == USAGE.prompt_tokens


def test_an_intent_at_token_prices_costs_its_prompt(books: Books) -> None:
    def begin(made: Trace) -> None:
        assert made.admitted is not None
        assert made.dispatch is not None
        books.settlement.begun(made, made.admitted, made.dispatch)

    under_way(books, begin, on=backend(price=Price(input=10_000_000, cached_input=0, output=0)))
    assert [(intent.cost_nanousd, intent.booking.line.cost_basis) for intent in books.intents] == [
        (1_000, "token_price")
    ]


def test_a_checkpoint_is_how_far_a_stream_has_come(books: Books) -> None:
    def check(made: Trace) -> None:
        assert made.admitted is not None
        assert made.dispatch is not None
        books.settlement.checkpoint(made, made.dispatch, 64, Usage(24, 3, 1))

    under_way(books, check)
    (kept,) = books.checkpoints
    assert (kept.outcome, kept.prompt_tokens, kept.cached_tokens, kept.output_tokens) == ("crashed", 24, 3, 64)
    assert kept.cost_nanousd == kept.gpu_ns > 0  # at a dollar a second


def test_what_shows_nothing_is_checkpointed_by_the_clock(books: Books) -> None:
    def check(made: Trace) -> None:
        again(books, made)
        assert made.dispatch is not None
        books.settlement.checkpoint_all()
        assert books.checkpoints == []
        made.dispatch.opened_at -= 2 * CHECKPOINT_SECONDS
        books.settlement.checkpoint_all()
        assert [kept.attempt_id for kept in books.checkpoints] == ["req_1.2"]
        made.dispatch.close("ok", USAGE)
        books.settlement.checkpoint_all()
        assert len(books.checkpoints) == 1

    under_way(books, check)


def test_a_request_that_got_no_second_worker_ends_with_its_first(books: Books) -> None:
    def refused(made: Trace) -> None:
        assert made.dispatch is not None
        books.settlement.other_attempt(made, made.dispatch, "failed", WorkerBroke("gone"))
        made.dispatch, made.error, made.exchange.status = None, Overloaded("no"), 503

    story(books, refused)
    assert [(row.attempt_id, row.final, row.estimated) for row in books.rows] == [("req_1.1", True, True)]


def test_a_request_that_never_got_anywhere(books: Books) -> None:
    """No row and nothing to give back, but a line and a count."""

    async def run() -> None:
        lost = Trace("req_1", exchange(Transport()), trace(exchange(Transport())).table, 0.0)
        lost.error, lost.exchange.status = NotFound("no such model"), 404
        books.settlement.settle(lost)

    asyncio.run(run())
    assert (books.rows, books.leases) == ([], [])
    assert books.counted("tollgate_requests_total") == 1
    line = books.line()
    assert (line["outcome"], line["tenant"], line["model"], line["worker"]) == ("rejected", "", "", "")


def test_a_report_that_fails_takes_no_other_with_it(books: Books, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        for is_sound in (False, True):
            made = trace(exchange(Transport()), on=backend(), lease=books)  # type: ignore[arg-type]
            answered(made)
            if not is_sound:
                made.dispatch, made.others, made.exchange.path = None, [], "/nowhere"
            books.settlement.settle(made)

    asyncio.run(run())
    assert (len(books.rows), len(books.leases)) == (1, 2)
    assert books.line()["outcome"] == "ok"
    assert caplog.messages == ["request not reported"]


def test_a_cache_hit_is_a_row_that_costs_nothing(books: Books) -> None:
    def hit(made: Trace) -> None:
        made.dispatch, made.cache, made.usage, made.exchange.status = None, "hit", USAGE, 200

    story(books, hit)
    (row,) = books.rows
    assert (row.attempt_id, row.outcome, row.final) == ("req_1.0", "cached", True)
    assert (row.line.worker, row.line.cost_basis) == ("", "none")
    assert (row.prompt_tokens, row.output_tokens, row.cost_nanousd) == (24, 16, 0)
    assert books.leases == [(0, 0)]
    assert books.counted("tollgate_tokens_total") == 0
    assert books.line()["outcome"] == "cached"


def test_an_attempt_before_the_last_has_a_row_of_its_own(books: Books) -> None:
    def retried(made: Trace) -> None:
        assert made.dispatch is not None
        first = made.dispatch
        books.settlement.other_attempt(made, first, "failed", Overloaded("no"))
        again(books, made)
        answered(made)

    story(books, retried)
    assert [(row.attempt_id, row.outcome, row.status, row.final) for row in books.rows] == [
        ("req_1.1", "failed", 503, False),
        ("req_1.2", "ok", 200, True),
    ]
    assert books.checkpoints == [books.rows[0]]  # as it is if nobody comes to settle it
    assert books.leases == [(40, books.rows[1].cost_nanousd)]
    assert books.counted("tollgate_attempts_total") == 2
    line = books.line()
    assert (line["attempts"], line["other_attempts"]) == (2, [{"worker": "w0", "outcome": "failed", "status": 503}])


def test_an_attempt_that_another_one_beat_is_billed_for_what_it_may_have_done(books: Books) -> None:
    def hedged(made: Trace) -> None:
        assert made.dispatch is not None
        books.settlement.other_attempt(made, made.dispatch, "hedged", None)
        again(books, made)
        answered(made)

    story(books, hedged)
    loser, winner = books.rows
    assert (loser.outcome, loser.status, loser.estimated, loser.line.cost_basis) == ("hedged", 0, True, "gpu_time")
    assert (loser.prompt_tokens, winner.estimated) == (100, False)
    assert loser.cost_nanousd > 0
    assert books.leases == [(40, loser.cost_nanousd + winner.cost_nanousd)]


@pytest.mark.parametrize(("prompts", "shown"), [("none", "<12 chars>"), ("full", "your secret!")])
def test_an_engine_may_quote_the_prompt_it_refuses(prompts: str, shown: str, books: Books) -> None:
    error = WorkerRefused(400, "your secret!", type="t", param="messages", code=None)
    story(books, fails(error, 400), prompts=prompts)
    assert books.line()["error"] == {"message": shown, "type": "t", "param": "messages", "code": None}


def test_the_engines_words_about_itself_are_for_the_operator(books: Books) -> None:
    error = WorkerFailed("The worker failed.")
    error.add_note("CUDA error: out of memory")
    story(books, fails(error, 502))
    assert books.line()["error"]["notes"] == ["CUDA error: out of memory"]
