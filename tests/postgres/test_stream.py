"""The way to PostgreSQL through Redis: whatever either does, every row arrives once, and so do the sums."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import pytest

from gateway.ledger.packing import pack
from gateway.ledger.postgres import PostgresStore
from gateway.ledger.store import Batch, Counts, LedgerError, Written
from gateway.settler.consumer import MOST_FAILURES
from gateway.settler.stream import StreamSink
from gateway.state.stream import BATCHES, GROUP, BatchStream
from tests.attempts import attempt
from tests.certificates import Authority
from tests.eventually import eventually
from tests.postgres.consumer_process import BOUNDARIES
from tests.postgres.scene import AGAIN_SECONDS, ROWS, Scene
from tests.postgres.server import PostgresServer
from tests.redis.conftest import RedisServer, cluster


@pytest.fixture
def scene(redis_server: RedisServer, url: str) -> Iterator[Scene]:
    with closing(Scene(redis_server.url, url)) as scene:
        yield scene


def test_a_batch_is_settled_when_it_is_in_the_database_and_not_before(scene: Scene, redis_server: RedisServer) -> None:
    scene.put(3)
    assert scene.sink.settled() == 0
    consumer = scene.consume()
    scene.settles()
    assert scene.sink.counts == Counts(3 * ROWS, 0, 0)
    assert consumer.status.added == 3 * ROWS
    with redis_server.client() as client:
        eventually(lambda: client.xlen(BATCHES) == 0, "nothing is left in the stream")
        assert client.keys("tollgate:{ledger}:*:acks:*") == [] or scene.sink.settled() == 3


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_consumer_killed_at_any_boundary_loses_and_doubles_nothing(scene: Scene, boundary: str) -> None:
    scene.put(2)
    with _process(scene, boundary, 2 if boundary == "read" else 1) as process:
        eventually(lambda: scene.offer() and process.poll() is not None, "the consumer has died")
    assert process.returncode == -signal.SIGKILL
    scene.consume()
    scene.put(2)
    scene.settles()


@contextmanager
def _process(scene: Scene, boundary: str, after: int) -> Iterator[subprocess.Popen[bytes]]:
    arguments = [scene.redis, scene.ledger, boundary, str(after)]
    process = subprocess.Popen([sys.executable, "-m", "tests.postgres.consumer_process", *arguments])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_of_two_consumers_one_takes_over_what_the_other_held_when_it_was_stopped(scene: Scene) -> None:
    """Stopped and not dead: when it goes on it finds its rows written."""
    scene.put(2)
    with _process(scene, "none", 1) as process:
        scene.settles()
        process.send_signal(signal.SIGSTOP)
        scene.put(3)
        scene.consume()
        scene.settles()
        process.send_signal(signal.SIGCONT)
        scene.put(2)
        scene.settles()


def test_several_sources_and_consumers_at_once(redis_server: RedisServer, url: str, scene: Scene) -> None:
    for _ in range(2):
        scene.consume()
    others = [StreamSink(BatchStream(redis_server.url), again_seconds=AGAIN_SECONDS) for _ in range(3)]
    for _ in range(20):
        scene.put()
        same = [attempt(f"r{scene.rows - 1 - row}", cost_nanousd=scene.rows - row) for row in range(ROWS)]
        for sink in others:  # as settlers do that read a journal once more
            sink.put(Batch(same))
    scene.settles()
    for sink in others:
        eventually(lambda sink=sink: sink.settled() == 20, "each source is told")  # type: ignore[misc]
        sink.close()
    added = scene.sink.counts.added + sum(sink.counts.added for sink in others)
    assert added == scene.rows
    assert scene.sink.counts.duplicates + sum(sink.counts.duplicates for sink in others) == 3 * scene.rows
    scene.settles()


def test_redis_that_was_emptied_before_anybody_read(scene: Scene, redis_server: RedisServer) -> None:
    scene.put(3)
    with redis_server.client() as client:
        client.flushall()
    scene.consume()
    scene.put(2)
    scene.settles()


def test_redis_that_was_emptied_after_everything_was_written(scene: Scene, redis_server: RedisServer) -> None:
    """And before its source asked: it is written once more, to no effect."""
    scene.put(3)
    consumer = scene.consume()
    eventually(lambda: consumer.status.added == 3 * ROWS, "it is written")
    with redis_server.client() as client:
        client.flushall()
    scene.settles()
    assert scene.sink.counts == Counts(0, 3 * ROWS, 0)


def test_acknowledgements_that_were_evicted(scene: Scene, redis_server: RedisServer) -> None:
    """While the entry itself is still there, before one that nobody has read to its end."""
    scene.put(2)
    stream = BatchStream(redis_server.url)
    stream.make_group()
    first, second = stream.read("one", 2, block=False)
    with redis_server.client() as client:
        client.xack(BATCHES, GROUP, second.id)
        assert stream.fates([first.id, second.id, b"1-1"]) == ["waiting", "gone", "gone"]
        assert client.xlen(BATCHES) == 2
    stream.close()
    scene.consume(claim_seconds=0.2)
    scene.settles()


def test_what_nobody_needs_is_removed_and_nothing_else(redis_server: RedisServer) -> None:
    with closing(BatchStream(redis_server.url)) as stream, redis_server.client() as client:
        stream.make_group()
        for number in range(4):
            stream.add(b"%d" % number)
        first, second, third = stream.read("one", 3, block=False)
        stream.acknowledge({}, [second.id])
        assert client.xlen(BATCHES) == 4  # the second stands after the first, which is with somebody
        stream.acknowledge({}, [first.id])
        assert client.xrange(BATCHES)[0][0] == third.id
        stream.acknowledge({}, [third.id])
        assert [entry[1] for entry in client.xrange(BATCHES)] == [{b"batch": b"3"}]  # nobody has read it
        assert stream.figures()[:2] == (1, 0)


def test_redis_that_is_killed_and_comes_back_empty(scene: Scene, redis_server: RedisServer) -> None:
    scene.consume()
    scene.put(2)
    redis_server.kill()
    with pytest.raises(LedgerError, match=r"Redis at redis://127\.0\.0\.1:.*see that it runs"):
        scene.sink.put(Batch([attempt("r20")]))
    redis_server.start()
    scene.put(3)
    scene.settles()


def test_redis_that_pauses(scene: Scene, redis_server: RedisServer) -> None:
    scene.consume()
    scene.put(2)
    redis_server.pause()
    try:
        with pytest.raises(LedgerError, match="Timeout"):
            scene.sink.put(scene.next_batch())  # which may be read later, and is put once more
    finally:
        redis_server.resume()
    scene.put(3)
    scene.settles()


def test_redis_that_is_full(scene: Scene, redis_server: RedisServer) -> None:
    scene.put(4)
    with redis_server.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")
        with pytest.raises(LedgerError, match="give it more memory"):
            scene.sink.put(Batch([attempt("r40")]))
        scene.consume()
        eventually(lambda: client.xlen(BATCHES) == 0, "the stream is emptied all the same")
        assert not scene.is_settled()
        client.config_set("maxmemory", "0")
    scene.settles()


def test_postgresql_that_is_killed_and_comes_back(scene: Scene, postgres: PostgresServer) -> None:
    consumer = scene.consume()
    scene.put(2)
    scene.settles()
    postgres.kill()
    try:
        scene.put(3)
        eventually(lambda: "see that PostgreSQL runs" in consumer.status.last_error, "it says so")
        assert not scene.is_settled()
    finally:
        postgres.start()
    scene.settles()
    eventually(lambda: not consumer.status.last_error, "it says no more")


def test_postgresql_that_pauses(scene: Scene, postgres: PostgresServer) -> None:
    scene.consume()
    scene.put(2)
    scene.settles()
    with postgres.paused():
        scene.put(3)
        time.sleep(AGAIN_SECONDS)  # long enough to be looked after
        assert not scene.is_settled()
    scene.settles()
    assert scene.sink.counts == Counts(5 * ROWS, 0, 0)


def test_postgresql_that_is_read_only(scene: Scene, postgres: PostgresServer, database: str) -> None:
    consumer = scene.consume()
    with postgres.connect() as connection:
        connection.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database,))
        scene.put(2)
        eventually(lambda: "read-only" in consumer.status.last_error, "it says so")
        connection.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
    scene.settles()


def test_what_waits_is_bounded_and_the_rest_stays_in_the_journal(redis_server: RedisServer, url: str) -> None:
    with closing(Scene(redis_server.url, url)) as scene:
        scene.sink = StreamSink(BatchStream(redis_server.url), most_batches=3, again_seconds=0.05)
        scene.put(3)
        with pytest.raises(LedgerError, match=r"3 batches wait at redis://.*see that a settler runs"):
            scene.sink.put(Batch([attempt("r30")]))
        assert scene.sink.settled() == 0
        time.sleep(0.1)
        assert scene.sink.settled() == 0  # has looked after them
        with redis_server.client() as client:
            assert client.xlen(BATCHES) == 3  # and added none of them again
        scene.consume()
        scene.put(3)
        scene.settles()


class PickyStore:
    """A database that fails, whatever the reason, with a batch that has a certain request in it."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self.snapshot, self.spent, self.change, self.close = store.snapshot, store.spent, store.change, store.close

    def write(self, batch: Batch) -> Written:
        if any(one.request_id == "poison" for one in batch.attempts):
            raise RuntimeError("an internal error")
        return self._store.write(batch)


def test_a_batch_that_cannot_be_written_is_set_aside_and_the_others_go_on(
    scene: Scene, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    scene.put()
    scene.number = scene.sink.put(Batch([attempt("poison")]))
    scene.put(2)
    consumer = scene.consume(store=lambda: PickyStore(PostgresStore(scene.ledger)))
    eventually(lambda: consumer.status.added == 3 * ROWS, "the others are written")
    eventually(lambda: "internal error" in consumer.status.last_error, "alone, it may be the ledger that fails")
    assert consumer.status.set_aside == 0
    for _ in range(2 * MOST_FAILURES):
        scene.put()
        if eventually(lambda: consumer.status.added == scene.rows, "the others go on") and consumer.status.set_aside:
            break
    scene.put()
    eventually(lambda: consumer.status.set_aside == 1, "it is set aside")
    scene.settles()
    assert scene.sink.counts == Counts(scene.rows, 0, 1)
    assert "attempt lost, the ledger does not take it (its batch was set aside)" in caplog.text
    with redis_server.client() as client:
        assert client.xlen("tollgate:{ledger}:1:aside") == 1


def test_a_ledger_that_takes_nothing_for_long_is_no_reason_to_set_anything_aside(scene: Scene) -> None:
    tries = count(1)

    class AwayStore(PickyStore):
        def write(self, batch: Batch) -> Written:
            if next(tries) < 5 * MOST_FAILURES:
                raise LedgerError("it is away")
            return super().write(batch)

    scene.put(3)
    consumer = scene.consume(store=lambda: AwayStore(PostgresStore(scene.ledger)), retries=(0.001, 0.01))
    scene.settles()
    assert consumer.status.set_aside == 0
    assert next(tries) > 5 * MOST_FAILURES


def test_bytes_that_are_no_batch_are_set_aside(scene: Scene, redis_server: RedisServer) -> None:
    whole = pack("x", 1, Batch([attempt("never")]))
    with redis_server.client() as client:
        for data in (b"", b"TGB9" + whole[4:], whole[:-1], b"\xff" * 100):
            client.xadd(BATCHES, {"batch": data})
        client.xadd(BATCHES, {"other": b"field"})
    scene.put()
    consumer = scene.consume()
    scene.settles()
    eventually(lambda: consumer.status.set_aside == 5, "all five")
    with redis_server.client() as client:
        assert client.xlen("tollgate:{ledger}:1:aside") == 5
        eventually(lambda: client.xlen(BATCHES) == 0, "and not read again")


def test_a_row_that_the_database_refuses_is_told_to_its_source(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.consume()
    scene.sink.put(Batch([attempt("far", started_at=1e300), attempt("huge", cost_nanousd=2**80)]))
    scene.put()
    eventually(lambda: scene.sink.settled() == 2, "both are settled")
    assert scene.sink.counts == Counts(ROWS, 0, 2)
    lost = [one for one in caplog.records if one.message.startswith("attempt lost, the ledger does not take it")]
    assert [one.name for one in lost] == ["tollgate.ledger"] * 2


def test_a_cluster(tmp_path: Path, url: str) -> None:
    with cluster(tmp_path) as nodes, closing(Scene(f"redis+cluster://{nodes[0].address}", url)) as scene:
        scene.put(2)
        scene.consume()
        scene.put(2)
        scene.settles()
        for node in nodes:
            with node.client() as client:
                client.flushall()
        scene.put()
        scene.settles()


def test_redis_over_tls(tmp_path: Path, url: str) -> None:
    authority = Authority(tmp_path / "tls")
    authority.server()
    (certificate,) = [path for path in (tmp_path / "tls").glob("ca-*.pem")]
    server = RedisServer(tmp_path / "redis")
    options = {"port": 0, "tls-port": server.port, "tls-auth-clients": "no", "tls-ca-cert-file": authority.ca}
    options |= {"tls-cert-file": certificate, "tls-key-file": certificate.with_suffix(".key")}
    server._options = tuple(str(part) for name, value in options.items() for part in (f"--{name}", value))
    server.start()
    try:
        with closing(Scene(f"rediss://{server.address}/0?ssl_ca_certs={authority.ca}", url)) as scene:
            scene.consume()
            scene.put(2)
            scene.settles()
        with (
            closing(Scene(f"rediss://{server.address}/0", url)) as scene,
            pytest.raises(LedgerError, match="certificate"),
        ):
            scene.sink.put(scene.next_batch())
    finally:
        server.stop()


def test_a_stopped_consumer_leaves_nothing_behind(scene: Scene, redis_server: RedisServer) -> None:
    scene.put()
    scene.consume()
    scene.settles()
    scene.close()
    with redis_server.client() as client:
        assert client.xinfo_consumers(BATCHES, GROUP) == []
