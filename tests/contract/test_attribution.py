"""The bill of real engines: rate times time to the nano-USD, and coefficients found from what was seen."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

import pytest
from openai import OpenAI

from gateway.attribution.job import Attributor, Terms
from gateway.attribution.split import IDLE, cost_until
from gateway.ledger.record import Reading
from gateway.ledger.sqlite import SqliteStore
from gateway.ledger.store import Batch
from tests.contract.conftest import OTHER_KEY, PATIENCE
from tests.eventually import eventually

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

HOURLY = 90_000_000  # nano-USD: the stack's
ASKED = 24
READING = Reading(0.0, "test", "chat", "scribe", "fp8", HOURLY, True, 0, 0, 0, 0, 0.0, -1, -1, 0.0)
SETTLED = """
    SELECT COUNT(*) FROM entries JOIN lines ON lines.id = entries.line WHERE worker = 'chat' AND opened_at >= :began
"""


def ask(client: OpenAI, number: int) -> None:
    text = "word " * (10 + 40 * (number % 4))
    stream = number % 3 > 0
    answer = client.completions.create(
        model="scribe", prompt=f"{number} {text}", max_tokens=8 + 8 * (number % 5), stream=stream, temperature=0
    )
    if stream:
        list(answer)


@pytest.fixture
def ledger(stack, tmp_path):
    """A copy of the stack's; nothing of it is billed yet, and its readings are the test's."""

    def copied(began: float, ended: float) -> SqliteStore:
        path = tmp_path / f"{time.monotonic_ns()}.db"
        with closing(sqlite3.connect(stack.ledger)) as source, closing(sqlite3.connect(path)) as target:
            source.backup(target)
            for table in ("readings", "windows", "billed", "shares", "allocations", "fits", "late"):
                target.execute(f"DELETE FROM {table}")
            target.commit()
        store = SqliteStore(path)
        seconds = range(int(began) - 1, int(ended) + 8)
        store.write(Batch([], [READING._replace(at=float(at)) for at in seconds]))
        return store

    return copied


def test_the_bill_is_rate_times_time_and_has_a_fit(stack, client, ledger):
    began = time.time()
    with OpenAI(base_url=f"{stack.url}/v1", api_key=OTHER_KEY, max_retries=0, timeout=PATIENCE) as other:
        for number in range(ASKED):
            ask((client, other)[number % 2], number)
    ended = time.time()

    def billed() -> tuple[dict[str, int], list[tuple[float, float]], list[tuple[int, float]]] | None:
        with closing(ledger(began, ended)) as store:
            with store.snapshot() as books:
                if books.rows(SETTLED, {"began": began})[0][0] < ASKED:
                    return None
            attributor = Attributor(store, Terms(window=5.0, readings=1.0))
            while attributor.step(ended + 8, ended + 8).closed:
                pass
            with store.snapshot() as books:
                spans = books.rows("""SELECT MIN("start"), MAX("end") FROM windows WHERE worker = 'chat'""")
                bill = books.rows(
                    "SELECT tenant, SUM(cost_nanousd) FROM allocations JOIN lines ON lines.id = line "
                    "WHERE worker = 'chat' GROUP BY tenant"
                )
                query = "SELECT n, r2 FROM fits WHERE model = 'scribe' ORDER BY at DESC LIMIT 1"
                return dict(bill), spans, books.rows(query)

    bill, [(start, end)], fits = eventually(billed, "the bill up to the last answer")
    assert start <= began
    assert end >= ended
    first, last = round(start * 1000) * 1_000_000, round(end * 1000) * 1_000_000
    assert sum(bill.values()) == cost_until(HOURLY, last) - cost_until(HOURLY, first)
    assert bill["contract"] > 0
    assert bill["other"] > 0
    assert bill[IDLE] > 0
    assert fits
    assert fits[0][0] > 0
    assert fits[0][1] <= 1.0  # how good it is a busy machine decides; `make attribution` has an engine that is known
