"""The pieces of one request's story, made by hand: a worker's account, an exchange that is recorded, a trace."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import orjson

from gateway.dispatch import Dispatch
from gateway.downstream.exchange import Exchange
from gateway.downstream.flow import Flow
from gateway.engines import DIALECTS
from gateway.fleet.backend import Backend
from gateway.ledger.pricing import Meter
from gateway.protocol.endpoints import ENDPOINTS
from gateway.protocol.request import read_request
from gateway.routing.types import Plan, Step
from gateway.rows import book
from gateway.series import AllSeries
from gateway.table import Candidate, Gpu, Key, Log, Price, Settings, Table
from gateway.tenancy.limits import UNLIMITED, Lease
from gateway.trace import Admitted, Trace
from gateway.upstream.pool import Pool
from tests.unit.gateway.routing.tables import GPU, ask, model, route, tenant, worker

CHAT = "/v1/chat/completions"


class Transport(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


def backend(*, gpu: Gpu | None = GPU, price: Price | None = None, **state: Any) -> Backend:
    pool = Pool("http://127.0.0.1:1")
    return Backend(
        worker=worker("w0", "chat@a", gpu=gpu, price=price),
        pool=pool,
        dialect=DIALECTS["vllm"],
        meter=Meter(),
        **{"up": True, "base_name": "chat", **state},
    )


def step(on: Backend) -> Step:
    return Step(on, Candidate("chat", "a"), on.base_name, 0.0, 0.0, 0.0)


def dispatch(on: Backend, *, number: int = 1, prompt_tokens: int = 100, unseen_tokens: int = 50) -> Dispatch:
    return Dispatch(on, step(on), number, prompt_tokens, unseen_tokens)


def table(prompts: str = "none") -> Table:
    settings = Settings(log=Log(prompts=prompts))  # type: ignore[arg-type]
    return Table("r1", Path(), settings, {}, {}, {"chat": model("chat", "a")}, {}, (), {}, {})


def exchange(transport: Transport, path: str = CHAT, headers: list[tuple[bytes, bytes]] | None = None) -> Exchange:
    """A whole request; to be made inside a running loop."""
    made = Exchange(
        loop=asyncio.get_running_loop(),
        transport=transport,
        flow=Flow(transport),
        path=path,
        headers=headers or [],
        http_version="1.1",
        keep_alive=True,
        expect_100_continue=False,
        common_lines=[],
        on_response=lambda: None,
        arrived=time.monotonic(),
    )
    made.more_body = False
    return made


def trace(
    of: Exchange,
    *,
    on: Backend | None = None,
    lease: Lease = UNLIMITED,
    prompts: str = "none",
    number: int = 1,
    **fields: Any,
) -> Trace:
    """A request that has been admitted, with an attempt under way when a backend is given."""
    body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], **fields}
    request = read_request(ENDPOINTS[of.path], b"application/json", orjson.dumps(body))
    key = Key("k1", b"", tenant())
    made = Trace("req_1", of, table(prompts), 1_790_000_000.0, key=key, request=request)
    plan = Plan(
        route("direct", Candidate("chat", None)), "named by the request, least latency", (step(on or backend()),), ()
    )
    made.admitted = Admitted(request, key, ask(), plan, lease)
    if on is not None:
        made.dispatch, made.asked = dispatch(on, number=number), number
        book(made, made.admitted, made.dispatch, AllSeries())
    return made


def replanned(admitted: Admitted, plan: Plan) -> Admitted:
    """The same request with another plan."""
    return Admitted(admitted.request, admitted.key, admitted.ask, plan, admitted.lease)
