"""Which way batches go, by what is configured; and a settler that goes all of it."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path

from gateway.ledger.journal.writer import Journal
from gateway.ledger.opening import open_books, open_store
from gateway.settler.orders import Orders
from gateway.settler.process import run
from gateway.settler.sinks import StoreSink, open_consumer, open_sink
from gateway.settler.status import read_status
from gateway.settler.stream import StreamSink
from gateway.state.stream import BATCHES
from gateway.table import Metering
from tests.attempts import attempt
from tests.eventually import eventually
from tests.redis.conftest import RedisServer


def orders(ledger: str, state: str = "memory://", journal: Path = Path("journal")) -> Orders:
    return Orders(ledger, state, Metering(journal=journal), {})


def test_sqlite_is_written_by_the_settler_itself(tmp_path: Path, redis_server: RedisServer) -> None:
    of_one_machine = orders(f"sqlite:///{tmp_path / 'ledger.db'}", redis_server.url)
    open_store(of_one_machine.ledger).close()
    with closing(open_sink(of_one_machine)) as sink:
        assert isinstance(sink, StoreSink)
    assert open_consumer(of_one_machine) is None


def test_postgresql_without_redis_too(url: str) -> None:
    with closing(open_sink(orders(url))) as sink:
        assert isinstance(sink, StoreSink)
    assert open_consumer(orders(url)) is None


def test_with_redis_nothing_is_asked_of_postgresql_before_there_is_something_to_write(
    redis_server: RedisServer,
) -> None:
    away = orders("postgresql://nobody@127.0.0.1:1/nothing", redis_server.url)
    consumer = open_consumer(away)
    assert consumer is not None
    with closing(open_sink(away)) as sink, closing(consumer):
        assert isinstance(sink, StreamSink)
        assert sink.settled() == 0
        consumer.step()  # does not raise


def test_a_settler_brings_a_journal_through_redis_into_postgresql(
    tmp_path: Path, redis_server: RedisServer, url: str
) -> None:
    open_store(url).close()
    through = orders(url, redis_server.url, tmp_path)
    journal = Journal(tmp_path, "one", max_bytes=1 << 24)
    rows = [attempt(f"req_{number:028x}", tags='{"a":"b"}') for number in range(100)]
    for row in rows[:60]:
        assert journal.append("settle", row)
    stop = threading.Event()
    settler = threading.Thread(target=run, args=(through, stop))
    settler.start()
    cost = rows[0].cost_nanousd
    try:
        eventually(lambda: open_books(url).spent("support", 0) == 60 * cost, "what was there is settled")
    finally:
        for row in rows[60:]:
            assert journal.append("settle", row)
        journal.close()
        stop.set()
        settler.join(20)
    assert open_books(url).spent("support", 0) == 100 * cost
    assert not (tmp_path / "one").exists()


def test_the_status_says_what_became_of_batches_that_cannot_be_written(
    tmp_path: Path, redis_server: RedisServer, url: str
) -> None:
    open_store(url).close()
    stop = threading.Event()
    settler = threading.Thread(target=run, args=(orders(url, redis_server.url, tmp_path), stop))
    settler.start()
    try:
        eventually(lambda: read_status(tmp_path).at, "it works")
        with redis_server.client() as client:
            client.xadd(BATCHES, {"batch": b"no batch"})
        eventually(lambda: read_status(tmp_path).set_aside == 1, "it is told")
    finally:
        stop.set()
        settler.join(20)
    assert (read_status(tmp_path).claimed, read_status(tmp_path).streamed) == (0, 0)


def test_the_status_says_when_the_far_end_cannot_write(tmp_path: Path, redis_server: RedisServer) -> None:
    away = orders("postgresql://nobody@127.0.0.1:1/nothing", redis_server.url, tmp_path)
    journal = Journal(tmp_path, "one", max_bytes=1 << 24)
    assert journal.append("settle", attempt(f"req_{1:028x}"))
    stop = threading.Event()
    settler = threading.Thread(target=run, args=(away, stop))
    settler.start()
    try:
        eventually(lambda: "see that PostgreSQL runs" in read_status(tmp_path).last_error, "it is told")
        eventually(lambda: read_status(tmp_path).streamed == 1, "and that a batch waits in the stream")
    finally:
        stop.set()
        settler.join(20)
        journal.close()
