"""Every fault as a client meets it on a real socket."""

from __future__ import annotations

import asyncio
import json

import pytest

from loadtests.standin import Behaviour, Standin
from tests.unit.loadtests.client import Client, dialogue

MESSAGES = [{"role": "user", "content": "hi"}]
CHAT = "/v1/chat/completions"


def wish(stream: bool = True, **behaviour: object) -> dict[str, object]:
    return {"messages": MESSAGES, "stream": stream, "standin": behaviour}


@dialogue
async def test_refuse_says_the_status_before_anything() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        for status in (429, 500, 503):
            reply = await client.ask(CHAT, wish(fault="refuse", status=status))
            assert (reply.status, json.loads(reply.body)["error"]["code"]) == (status, status)
            assert reply.headers["content-type"] == "application/json"


@dialogue
async def test_error_frame_comes_inside_a_200_and_is_followed_by_done() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        reply = await client.ask(CHAT, wish(fault="error_frame"))
        assert reply.status == 200
        error, done = reply.chunks
        assert error.startswith(b'data: {"error": {"message": "The engine is currently busy')  # blanks: json.dumps
        assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == 503
        assert done == b"data: [DONE]\n\n"


@dialogue
async def test_error_frame_after_some_events() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        reply = await client.ask(CHAT, wish(fault="error_frame", after=3, status=500))
        assert len(reply.chunks) == 5
        assert [b'"error"' in chunk for chunk in reply.chunks] == [False, False, False, True, False]


@dialogue
async def test_error_frame_in_the_other_dialects() -> None:
    async with Standin() as worker:
        async with Client(worker.port) as client:
            body = wish(fault="error_frame") | {"max_tokens": 5}
            reply = await client.ask("/v1/messages", body)
            assert reply.chunks[-1].startswith(b"event: error\n")
            assert b"message_stop" not in reply.body
        async with Client(worker.port) as client:
            client.send("/v1/responses", {"input": "hi", "stream": True, "standin": {"fault": "error_frame"}})
            assert not (await client.rest()).endswith(b"0\r\n\r\n")


@dialogue
async def test_die_closes_mid_stream_without_an_end() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        client.send(CHAT, wish(fault="die", after=4))
        assert (await client.head()).status == 200
        rest = await client.rest()
        assert rest.count(b"data: ") == 4
        assert not rest.endswith(b"0\r\n\r\n")
        assert worker.requests[-1].outcome == "faulted"
        assert worker.requests[-1].tokens == 3  # the first event only says the role


@dialogue
async def test_die_cuts_a_document_in_half() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        client.send(CHAT, wish(stream=False, fault="die"))
        reply = await client.head()
        assert 0 < len(await client.rest()) < int(reply.headers["content-length"])


@pytest.mark.parametrize("after", [0, 2])
@dialogue
async def test_reset(after: int) -> None:
    async with Standin() as worker, Client(worker.port) as client:
        client.send(CHAT, wish(fault="reset", after=after))
        if after:
            await client.head()
            for _ in range(after):
                assert (await client.chunk()).startswith(b"data: ")
        with pytest.raises(ConnectionResetError):
            await client.rest()


@dialogue
async def test_half_close_ends_one_direction_only() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        client.send(CHAT, wish(fault="half_close", after=2))
        await client.head()
        assert (await client.rest()).count(b"data: ") == 2
        assert worker.connections  # still there until we close


@pytest.mark.parametrize("stream", [True, False])
@dialogue
async def test_stuck_stays_after_the_headers_until_the_client_leaves(stream: bool) -> None:
    async with Standin() as worker:
        async with Client(worker.port) as client:
            client.send(CHAT, wish(stream=stream, fault="stuck"))
            assert (await client.head()).status == 200
            await worker.wait_for(active=1)
        await worker.wait_for(aborted=1)
        assert worker.active == 0


@dialogue
async def test_silent_never_answers_and_notices_the_client_leaving() -> None:
    async with Standin(behaviour=Behaviour(fault="silent")) as worker:
        async with Client(worker.port) as client:
            client.send(CHAT, {"messages": MESSAGES})
            await worker.wait_for(active=1)
        await worker.wait_for(aborted=1)
        await worker.wait_idle()


@dialogue
async def test_hang_up_closes_without_a_word() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        client.send(CHAT, wish(fault="hang_up"))
        assert await client.rest() == b""


@dialogue
async def test_close_after_answers_in_full_and_announces_nothing() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        reply = await client.ask(CHAT, wish(stream=False, fault="close_after"))
        assert reply.status == 200
        assert "connection" not in reply.headers
        assert await client.rest() == b""


@dialogue
async def test_trickle_changes_nothing_but_the_pieces() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        whole = await client.ask(CHAT, wish())
        trickled = await client.ask(CHAT, wish(fault="trickle", slice=7))
        assert len(trickled.chunks) == len(whole.chunks)
        document = await client.ask(CHAT, wish(stream=False, fault="trickle", slice=50))
        assert json.loads(document.body)["object"] == "chat.completion"


@dialogue
async def test_garbage_is_not_http() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        client.send(CHAT, wish(fault="garbage"))
        assert not (await client.reader.readexactly(5)).startswith(b"HTTP/")


@dialogue
async def test_bad_chunk_breaks_the_framing() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        client.send(CHAT, wish(fault="bad_chunk", after=1))
        await client.head()
        assert (await client.chunk()).startswith(b"data: ")
        with pytest.raises(ValueError, match="invalid literal"):
            await client.chunk()


@pytest.mark.parametrize(("fault", "compare"), [("short_body", int.__lt__), ("long_body", int.__gt__)])
@dialogue
async def test_content_length_lies(fault: str, compare: object) -> None:
    async with Standin() as worker, Client(worker.port) as client:
        client.send(CHAT, wish(stream=False, fault=fault))
        promised = int((await client.head()).headers["content-length"])
        if fault == "long_body":
            client.writer.write_eof()
        assert compare(len(await client.rest()), promised)  # type: ignore[operator]


@dialogue
async def test_delays_come_where_they_were_asked_for() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        loop = asyncio.get_running_loop()
        start = loop.time()
        client.send(CHAT, wish(header_delay=0.05, first_token_delay=0.05, pace=0.01, tokens=6))
        await client.head()
        assert loop.time() - start >= 0.05  # never earlier than asked; how much later is the machine's affair
        await client.chunk()
        assert loop.time() - start >= 0.1
        while await client.chunk():
            pass
        assert loop.time() - start >= 0.15


@dialogue
async def test_keep_alive_comments_fill_the_silence() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        reply = await client.ask(CHAT, wish(first_token_delay=0.05, keep_alive=0.01))
        assert reply.chunks[0] == b": keep-alive\n\n"
        assert reply.chunks[-1] == b"data: [DONE]\n\n"


@dialogue
async def test_a_wish_may_come_in_a_header_and_nonsense_is_a_400() -> None:
    async with Standin() as worker, Client(worker.port) as client:
        body = {"messages": MESSAGES}
        reply = await client.ask(CHAT, body, headers={"x-standin": '{"fault": "refuse", "status": 502}'})
        assert reply.status == 502
        for nonsense in ('{"fault": "explode"}', "not json"):
            reply = await client.ask(CHAT, body, headers={"x-standin": nonsense})
            assert reply.status == 400
            assert json.loads(reply.body)["error"]["message"].startswith("standin: ")


@dialogue
async def test_faults_leave_probes_alone() -> None:
    async with Standin(behaviour=Behaviour(fault="hang_up")) as worker, Client(worker.port) as client:
        for path in ("/health", "/v1/models", "/metrics", "/version"):
            assert (await client.ask(path, method="GET")).status == 200
