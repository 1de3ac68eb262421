"""Every fault the stand-in worker knows: each ends in an answer or in one of our errors, and leaves nothing behind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from gateway.errors import UpstreamError, WorkerBroke, WorkerTimeout, WorkerUnreachable
from gateway.table import Timeout
from gateway.upstream.pool import Pool
from loadtests.standin import Standin
from tests.unit.gateway.dialogue import dialogue
from tests.unit.gateway.upstream.loopback import JSON, PATIENT, until

SHORT = replace(PATIENT, first_token=0.2, idle=0.2)

ENDS: dict[tuple[str, bool], type[UpstreamError] | int] = {
    ("refuse", False): 503,
    ("refuse", True): 503,
    ("error_frame", True): 200,
    ("die", False): WorkerBroke,
    ("die", True): WorkerBroke,
    ("reset", False): WorkerUnreachable,
    ("reset", True): WorkerBroke,
    ("half_close", True): WorkerBroke,
    ("stuck", False): WorkerTimeout,
    ("stuck", True): WorkerTimeout,
    ("silent", False): WorkerTimeout,
    ("silent", True): WorkerTimeout,
    ("hang_up", False): WorkerUnreachable,
    ("hang_up", True): WorkerUnreachable,
    ("close_after", False): 200,
    ("close_after", True): 200,
    ("trickle", False): 200,
    ("trickle", True): 200,
    ("garbage", False): WorkerBroke,
    ("garbage", True): WorkerBroke,
    ("bad_chunk", True): WorkerBroke,
    ("short_body", False): WorkerBroke,
    ("long_body", False): 200,
}


async def ask(pool: Pool, stream: bool, deadlines: Timeout, **behaviour: Any) -> int:
    body = {
        "model": "standin",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": stream,
        "standin": behaviour,
    }
    response = await pool.request("/v1/chat/completions", JSON, orjson.dumps(body), b"", deadlines)
    try:
        await response.read(1024 * 1024)
    finally:
        response.abort()
    return response.status


@pytest.mark.parametrize(("fault", "stream"), ENDS)
@dialogue
async def test_every_fault_ends_well(fault: str, stream: bool) -> None:
    async with Standin() as worker:
        pool = Pool(worker.url)
        expected = ENDS[fault, stream]
        for _ in range(2):  # the second on what the first left
            if isinstance(expected, int):
                deadlines = PATIENT
                assert await ask(pool, stream, deadlines, fault=fault, after=2, slice=100) == expected
            else:
                after = 0 if fault == "reset" and not stream else 2
                with pytest.raises(expected):
                    await ask(pool, stream, SHORT, fault=fault, after=after)
            assert await ask(pool, stream, PATIENT) == 200
        await worker.wait_idle()
        await pool.close()
        await until(lambda: pool.connections == 0)
