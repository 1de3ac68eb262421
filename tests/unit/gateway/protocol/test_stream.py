"""Streams through the relay: whole or in any pieces, with every kind of event an engine sends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError, Overloaded, WorkerBroke, WorkerFailed
from gateway.protocol import sse
from gateway.protocol.endpoints import ENDPOINTS, Endpoint
from gateway.protocol.stream import MAX_EVENT_BYTES, State, StreamRelay, renames
from gateway.protocol.usage import Usage

CHAT = ENDPOINTS["/v1/chat/completions"]
COMPLETIONS = ENDPOINTS["/v1/completions"]
RESPONSES = ENDPOINTS["/v1/responses"]
MESSAGES = ENDPOINTS["/v1/messages"]
ENGINE, ASKED = "scribe-w8a8", "auto"
DONE = b"data: [DONE]\n\n"


def frame_error(frame: Mapping[str, Any]) -> GatewayError | None:
    """As the dialects judge: any non-null `error`, and the flat shape."""
    if frame.get("error"):
        return Overloaded("busy")
    return WorkerFailed("flat") if frame.get("object") == "error" else None


def relay(endpoint: Endpoint = CHAT, *, keep_usage: bool = False, engine: str = ENGINE) -> StreamRelay:
    return StreamRelay(endpoint, engine_model=engine, asked_model=ASKED, keep_usage=keep_usage, frame_error=frame_error)


class Passed(NamedTuple):
    """Everything a relay shows of one stream."""

    out: bytes
    state: State
    usage: Usage | None
    events: int
    error: dict[str, object] | None


def passed(subject: StreamRelay, *reads: bytes) -> Passed:
    out = b"".join([*(subject.feed(read) for read in reads), subject.finish()])
    error = None if subject.error is None else subject.error.fields()
    return Passed(out, subject.state, subject.usage, subject.events, error)


def event(frame: object, end: bytes = b"\n", kind: str = "", spaced: bool = False) -> bytes:
    data = json.dumps(frame).encode() if spaced else orjson.dumps(frame)
    head = b"event: %b%b" % (kind.encode(), end) if kind else b""
    return head + b"data: " + data + end * 2


def chunk(text: str = "hi", **more: object) -> dict[str, object]:
    return {"id": "1", "model": ENGINE, "choices": [{"index": 0, "delta": {"content": text}}], **more}


USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
USAGE_CHUNK = {"id": "1", "model": ENGINE, "choices": [], "usage": USAGE}


# Any split gives the same

hostile_texts = st.sampled_from(
    [
        "hello",
        "[DONE]",
        "data: [DONE]\n\n",
        f'"model":"{ENGINE}"',
        f'{{"model": "{ENGINE}"}}',
        '"usage":{"prompt_tokens":1}',
        '{"error":{"message":"no"}}',
        '"error"',
        "\r\n\r\n",
        "response.completed",
        "message_stop",
        "é\u2028😀",
        "",
    ]
)
ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
usages = st.sampled_from([{}, {"usage": None}, {"usage": USAGE}])


@st.composite
def chat_streams(draw: st.DrawFn) -> bytes:
    end = draw(ends)
    frames: list[bytes] = []
    for text in draw(st.lists(hostile_texts, max_size=5)):
        frames.append(event(chunk(text, **draw(usages)), end, spaced=draw(st.booleans())))
        frames.append(draw(st.sampled_from([b"", b": keep-alive" + end * 2, b"id: 5" + end, end])))
    if draw(st.booleans()):
        frames.append(event(USAGE_CHUNK, end))
    if draw(st.booleans()):
        frames.append(b"data: [DONE]" + end * 2)
    bad = draw(
        st.sampled_from(
            [b"", event({"error": {"message": "busy"}}, end), event({"object": "error"}, end), b"data: {x" + end * 2]
        )
    )
    frames.insert(draw(st.integers(0, len(frames))), bad)
    cut = draw(st.sampled_from([0, 0, 0, 1, 2, 5]))
    stream = b"".join(frames)
    return stream[: len(stream) - cut]


@st.composite
def typed_streams(draw: st.DrawFn) -> tuple[Endpoint, bytes]:
    """Responses and Messages: named events, usage wrapped in them, a typed end."""
    end = draw(ends)
    usage = {"input_tokens": 5, "output_tokens": 2}
    if draw(st.booleans()):
        endpoint, kind, delta = RESPONSES, "response.output_text.delta", "response.output_text.delta"
        first = {"type": "response.created", "response": {"model": ENGINE, "error": None, "usage": None}}
        last = {"type": "response.completed", "response": {"model": ENGINE, "usage": usage}}
    else:
        endpoint, kind, delta = MESSAGES, "content_block_delta", "content_block_delta"
        first = {"type": "message_start", "message": {"model": ENGINE, "usage": usage}}
        last = {"type": "message_stop"}
    frames = [event(first, end, str(first["type"]))]
    frames += [event({"type": delta, "delta": text}, end, kind) for text in draw(st.lists(hostile_texts, max_size=4))]
    if draw(st.booleans()):
        frames.append(event(last, end, str(last["type"]) if draw(st.booleans()) else ""))
    if draw(st.booleans()):
        frames.append(b"data: [DONE]" + end * 2)
    if draw(st.booleans()):
        error = event({"type": "error", "error": {"message": "busy"}}, end, "error")
        frames.insert(draw(st.integers(0, len(frames))), error)
    return endpoint, b"".join(frames)


def pieces(data: st.DataObject, stream: bytes) -> list[bytes]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12), label="cuts"))
    return [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


@given(chat_streams(), st.booleans(), st.sampled_from([CHAT, COMPLETIONS]), st.data())
def test_any_split_of_a_chat_stream_gives_the_same(
    stream: bytes, keep_usage: bool, endpoint: Endpoint, data: st.DataObject
) -> None:
    whole = passed(relay(endpoint, keep_usage=keep_usage), stream)
    assert passed(relay(endpoint, keep_usage=keep_usage), *pieces(data, stream)) == whole
    assert passed(relay(endpoint, keep_usage=keep_usage), *(stream[i : i + 1] for i in range(len(stream)))) == whole


@given(typed_streams(), st.data())
def test_any_split_of_a_typed_stream_gives_the_same(stream: tuple[Endpoint, bytes], data: st.DataObject) -> None:
    endpoint, sent = stream
    assert passed(relay(endpoint), *pieces(data, sent)) == passed(relay(endpoint), sent)


@given(st.lists(st.binary(max_size=40) | chat_streams(), max_size=6).map(b"".join), st.booleans(), st.data())
def test_any_split_of_any_bytes_gives_the_same(stream: bytes, keep_usage: bool, data: st.DataObject) -> None:
    whole = passed(relay(keep_usage=keep_usage), stream)
    assert passed(relay(keep_usage=keep_usage), *pieces(data, stream)) == whole
    assert whole.state in ("ended", "broken")


# What comes out, against the same stream read as JSON


@given(st.lists(st.tuples(hostile_texts, usages), max_size=6), st.booleans(), st.booleans(), st.booleans())
def test_a_chat_stream_says_what_the_engine_said(
    deltas: list[tuple[str, dict[str, object]]], has_usage_event: bool, keep_usage: bool, spaced: bool
) -> None:
    frames = [chunk(text, **usage) for text, usage in deltas] + [USAGE_CHUNK] * has_usage_event
    result = passed(relay(keep_usage=keep_usage), b"".join(event(f, spaced=spaced) for f in frames) + DONE)

    expected = [{**frame, "model": ASKED} for frame in frames]
    if not keep_usage:
        expected = [{k: v for k, v in f.items() if k != "usage"} for f in expected if f["choices"]]
    *events, last = sse.split(result.out)
    assert [orjson.loads(e.data) for e in events] == expected
    assert last.raw == DONE
    reported = any(frame.get("usage") for frame in frames)
    assert result.usage == (Usage(7, 0, 3) if reported else None)
    assert (result.state, result.error, result.events) == ("ended", None, len(expected))


@given(st.binary())
def test_bytes_without_anything_to_read_pass_as_they_came(stream: bytes) -> None:
    complete = stream[: sse.boundary(stream)]
    subject = relay(engine=ASKED)
    assert subject.feed(stream) == complete


# Ends


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_done_ends_a_stream_and_nothing_follows(end: bytes) -> None:
    done = b"data: [DONE]" + end * 2
    result = passed(relay(), event(chunk(), end) + done, event(chunk(), end))
    assert result.state == "ended"
    assert result.events == 1
    assert result.out.rstrip(b"\r\n").endswith(b"data: [DONE]")


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete", "response.failed"])
@pytest.mark.parametrize("named", [True, False])
def test_a_responses_stream_ends_with_its_last_event(kind: str, named: bool) -> None:
    last = event({"type": kind, "response": {"usage": {"input_tokens": 4, "output_tokens": 2}}}, kind=kind * named)
    result = passed(relay(RESPONSES), last, DONE)
    assert result == Passed(last, "ended", Usage(4, 0, 2), 1, None)


def test_an_event_type_alone_can_end_a_stream() -> None:
    last = b'event: message_stop\ndata: {"x":1}\n\n'
    assert passed(relay(MESSAGES), last) == Passed(last, "ended", None, 1, None)


def test_a_messages_stream_gathers_usage_from_its_first_and_last_events() -> None:
    stream = [
        event(
            {"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 0}}},
            kind="message_start",
        ),
        event({"type": "message_delta", "usage": {"output_tokens": 9}}, kind="message_delta"),
        event({"type": "message_stop"}, kind="message_stop"),
    ]
    assert passed(relay(MESSAGES), *stream) == Passed(b"".join(stream), "ended", Usage(5, 0, 9), 3, None)


def test_a_stream_that_just_stops_is_broken_and_says_so() -> None:
    result = passed(relay(), event(chunk()), b'data: {"id":')
    out = result.out.removeprefix(event(chunk()).replace(ENGINE.encode(), ASKED.encode()))
    assert result.state == "broken"
    assert orjson.loads(out.removeprefix(b"data: "))["error"]["code"] == "worker_broke"


def test_a_stream_without_a_byte_is_broken() -> None:
    result = passed(relay())
    assert (result.state, result.events) == ("broken", 0)
    assert result.error is not None


def test_an_ended_stream_has_nothing_more_to_say() -> None:
    subject = relay()
    subject.feed(DONE)
    assert subject.broke(WorkerBroke("late")) == b""
    assert subject.finish() == b""
    assert subject.error is None


# Errors


def test_an_error_in_the_first_event_breaks_a_stream_that_is_still_opening() -> None:
    subject = relay()
    out = subject.feed(event({"error": {"message": "busy", "code": 503}}))
    assert subject.state == "broken"
    assert isinstance(subject.error, Overloaded)
    assert subject.events == 0
    assert orjson.loads(out.removeprefix(b"data: ")) == {"error": subject.error.fields()}


def test_comments_do_not_open_a_stream() -> None:
    subject = relay()
    assert subject.feed(b": keep-alive\n\n") == b": keep-alive\n\n"
    assert subject.state == "opening"
    subject.feed(event({"error": {"message": "busy"}}))
    assert subject.state == "broken"


def test_an_error_later_ends_the_stream_without_done() -> None:
    result = passed(relay(), event(chunk()) + event({"error": {"message": "busy"}}) + DONE)
    assert result.state == "broken"
    assert b"[DONE]" not in result.out
    assert result.out.count(b"\n\n") == 2


def test_an_error_without_an_error_key_is_seen_too() -> None:
    result = passed(relay(), event({"object": "error", "message": "flat", "code": 400}))
    assert result.error == WorkerFailed("flat").fields()


@pytest.mark.parametrize("endpoint", [RESPONSES, MESSAGES])
def test_typed_streams_get_a_typed_error(endpoint: Endpoint) -> None:
    out = relay(endpoint).broke(WorkerBroke("gone"))
    (sent,) = sse.split(out)
    assert sent.type == "error"
    assert orjson.loads(sent.data) == {"type": "error", "error": WorkerBroke("gone").fields()}


def test_a_null_error_is_none() -> None:
    created = event({"type": "response.created", "response": {"error": None}, "error": None}, kind="response.created")
    subject = relay(RESPONSES)
    assert subject.feed(created) == created
    assert subject.state == "flowing"


def test_data_that_is_no_json_object_passes() -> None:
    odd = b'data: [1, "error"]\n\ndata: {"error\n\n'
    subject = relay()
    assert subject.feed(odd) == odd
    assert (subject.state, subject.events) == ("flowing", 2)


# Usage


def test_a_first_event_with_no_choices_and_no_usage_is_kept() -> None:
    first = {"choices": [], "prompt_filter_results": [1], "usage": None}
    subject = relay()
    assert orjson.loads(subject.feed(event(first)).removeprefix(b"data: ")) == {
        "choices": [],
        "prompt_filter_results": [1],
    }


def test_usage_elsewhere_in_a_chat_event_is_left_alone() -> None:
    odd = event({"choices": [], "message": {"usage": USAGE}})
    subject = relay()
    assert subject.feed(odd) == odd
    assert subject.usage == Usage(7, 0, 3)


# Size


@pytest.mark.parametrize("size", [MAX_EVENT_BYTES + 1, MAX_EVENT_BYTES * 3])
@pytest.mark.parametrize("step", [1024 * 1024, MAX_EVENT_BYTES * 4])
@pytest.mark.parametrize("after", [b"", DONE])
def test_an_event_above_the_limit_breaks_the_stream_after_what_came_before(size: int, step: int, after: bytes) -> None:
    before = event(chunk())
    stream = before + b"data: " + b"x" * (size - 8) + b"\n\n" + after
    result = passed(relay(), *(stream[i : i + step] for i in range(0, len(stream), step)))
    assert (result.state, result.events) == ("broken", 1)
    first, error = sse.split(result.out)
    assert orjson.loads(first.data) == chunk() | {"model": ASKED}
    assert b"worker_broke" in error.data


@pytest.mark.parametrize("step", [1024 * 1024, MAX_EVENT_BYTES * 3])
def test_an_event_at_the_limit_passes(step: int) -> None:
    largest = b"data: " + b"x" * (MAX_EVENT_BYTES - 8) + b"\n\n"
    assert len(largest) == MAX_EVENT_BYTES
    stream = largest + largest + DONE
    result = passed(relay(), *(stream[i : i + step] for i in range(0, len(stream), step)))
    assert result == Passed(stream, "ended", None, 2, None)


# Names


@given(st.text(min_size=1), st.text(min_size=1), st.text(), st.booleans())
def test_renaming_changes_the_model_and_no_text(engine: str, asked: str, text: str, spaced: bool) -> None:
    frame = {"model": engine, "text": f'{text} "model":"{engine}" "model": "{engine}"'}
    dumped = json.dumps(frame, ensure_ascii=False).encode() if spaced else orjson.dumps(frame)
    for old, new in renames(engine, asked):
        dumped = dumped.replace(old, new)
    assert orjson.loads(dumped) == {**frame, "model": asked}


def test_the_same_name_needs_no_renaming() -> None:
    assert renames("m", "m") == ()


# How many tokens a stream has shown


def test_a_chat_opens_each_choice_with_an_event_that_is_no_token() -> None:
    """As vLLM streams: all choices are opened before the first token of any."""
    subject = StreamRelay(
        CHAT, engine_model=ENGINE, asked_model=ASKED, keep_usage=True, frame_error=frame_error, choices=2
    )
    opened = [event({"choices": [{"index": n, "delta": {"role": "assistant", "content": ""}}]}) for n in (0, 1)]
    tokens = [event({"choices": [{"index": n % 2, "delta": {"content": "x"}}]}) for n in range(5)]
    subject.feed(opened[0])
    assert subject.tokens == 0
    subject.feed(opened[1] + tokens[0])
    assert subject.tokens == 1
    for one in tokens[1:]:
        subject.feed(one)
    subject.feed(event({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 5}}))
    assert subject.tokens == 5


def test_a_completion_begins_with_its_first_token() -> None:
    subject = relay(COMPLETIONS)
    subject.feed(event({"choices": [{"text": "a"}]}) + b": keep-alive\n\n" + event({"choices": [{"text": "b"}]}))
    assert (subject.tokens, subject.events) == (2, 2)


@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_of_responses_only_deltas_are_tokens(whole: bool, spaced: bool) -> None:
    """With what vLLM sends around them; a text that looks like an event's type is none."""
    said = [
        {"type": "response.created", "response": {}},
        {"type": "response.in_progress", "response": {}},
        {"type": "response.output_item.added", "item": {}},
        {"type": "response.content_part.added", "part": {}},
        {"type": "response.output_text.delta", "delta": "He"},
        {"type": "response.output_text.delta", "delta": '"response.output_text.delta"'},
        {"type": "response.reasoning_text.delta", "delta": "so", "error": None},  # parsed, for its `error`
        {"type": "response.output_text.done", "text": "He"},
        {"type": "response.output_item.done", "item": {}},
    ]
    events = [event(one, kind=str(one["type"]), spaced=spaced) for one in said]
    subject = relay(RESPONSES)
    for read in [b"".join(events)] if whole else events:
        subject.feed(read)
    assert (subject.tokens, subject.events) == (3, 9)


@pytest.mark.parametrize("whole", [False, True])
def test_of_messages_only_deltas_are_tokens(whole: bool) -> None:
    said = [
        {"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 0}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "He"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": '"content_block_delta"'}},
        {"type": "content_block_stop", "index": 0},
    ]
    events = [event(one, kind=str(one["type"])) for one in said]
    subject = relay(MESSAGES)
    for read in [b"".join(events)] if whole else events:
        subject.feed(read)
    assert (subject.tokens, subject.usage) == (2, Usage(9, 0, 0))
