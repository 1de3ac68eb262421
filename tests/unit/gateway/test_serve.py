"""What only a fault of the gateway itself brings about; everything else about a request is told on the wire."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from gateway.cache.flight import Flights
from gateway.cache.memory import MemoryStore
from gateway.downstream.exchange import Exchange
from gateway.routing.router import Router
from gateway.serve import FIRST_GUESS_OUTPUT_TOKENS, Revision, Service
from gateway.table import Key
from gateway.telemetry import Metrics
from gateway.tenancy.keys import Keys, digest
from gateway.trace import Trace
from tests.unit.gateway import stories
from tests.unit.gateway.routing.tables import tenant

KEY = "sk-test-unit"
BODY = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}


class Settled:
    """A settlement that remembers what it was given."""

    def __init__(self, *, has_no_room: bool = False) -> None:
        self.traces: list[Trace] = []
        self.has_no_room = has_no_room

    def settle(self, trace: Trace) -> None:
        self.traces.append(trace)


class Fleet:
    def __init__(self) -> None:
        self.backend = stories.backend()

    def views(self, model: str, version: str | None) -> list[Any]:
        return [self.backend]


class Limiter:
    """Admits nobody: what `does` raises, the request meets."""

    def __init__(self, does: Callable[[], None]) -> None:
        self._does = does

    def admit(self, *_: object) -> None:
        self._does()

    def headers(self, *_: object) -> list[tuple[bytes, bytes]]:
        return []


def service(settled: Settled, does: Callable[[], None]) -> Service:
    table = stories.table()
    key = Key("k1", digest(KEY), tenant())
    object.__setattr__(table, "keys", {key.digest: key})
    return Service(
        revision=Revision(table, Router(table), Keys(table.keys, {})),
        fleet=Fleet(),  # type: ignore[arg-type]
        limiter=Limiter(does),  # type: ignore[arg-type]
        store=MemoryStore(0),
        flights=Flights(),
        metrics=Metrics(),
        settlement=settled,  # type: ignore[arg-type]
    )


def answered(
    does: Callable[[], None], change: Callable[[Exchange], None] = lambda _: None, *, has_no_room: bool = False
) -> tuple[bytes, Trace]:
    """What a client gets whose request meets `does`, and the trace that was settled."""
    transport, settled = stories.Transport(), Settled(has_no_room=has_no_room)

    async def run() -> None:
        exchange = stories.exchange(transport, headers=[(b"authorization", f"Bearer {KEY}".encode())])
        exchange.body_parts = [json.dumps(BODY).encode()]
        change(exchange)
        await service(settled, does).handle(exchange)

    asyncio.run(run())
    (trace,) = settled.traces
    return transport.written, trace


def test_a_fault_of_ours_is_a_500_with_an_id_and_a_traceback_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def fault() -> None:
        raise ZeroDivisionError("nobody thought of this")

    with caplog.at_level(logging.ERROR, "tollgate.serve"):
        written, trace = answered(fault)
    head, _, body = written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 ")
    assert f"x-request-id: {trace.id}".encode() in head
    error = json.loads(body)["error"]
    assert (error["type"], error["code"], error["param"]) == ("server_error", "internal_error", None)
    assert trace.id in error["message"]
    assert "nobody thought of this" not in written.decode()
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.fields == {"request_id": trace.id}  # type: ignore[attr-defined]
    assert trace.error is not None


def test_who_is_stopped_before_its_answer_is_told_to_come_back() -> None:
    """The drain has run out: the task is cancelled and the client is still there."""

    def stop() -> None:
        raise asyncio.CancelledError

    written, trace = answered(stop)
    head, _, body = written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in head
    assert json.loads(body)["error"]["code"] == "overloaded"
    assert trace.error is not None


def test_a_request_that_the_ledger_has_no_room_for_is_not_begun() -> None:
    def admitted() -> None:
        raise AssertionError("it was let in")

    written, trace = answered(admitted, has_no_room=True)
    head, _, body = written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 5" in head
    assert json.loads(body)["error"]["code"] == "ledger_full"
    assert trace.admitted is None


def test_who_has_left_is_told_nothing() -> None:
    def stop() -> None:
        raise asyncio.CancelledError

    def leave(exchange: Exchange) -> None:
        exchange.disconnected = True

    written, trace = answered(stop, leave)
    assert (written, trace.error) == (b"", None)


def test_the_length_of_answers_is_learnt_slowly() -> None:
    learning = service(Settled(), lambda: None)
    learning.learn("t", "chat", "chat", 0)
    assert learning.output_tokens["chat"] == pytest.approx(0.95 * FIRST_GUESS_OUTPUT_TOKENS)
    for _ in range(200):
        learning.learn("t", "chat", "chat", 1_000)
    assert learning.output_tokens["chat"] == pytest.approx(1_000, rel=0.01)
