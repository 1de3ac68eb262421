"""Framing against the WHATWG algorithm, written out line by line as the standard has it."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.protocol import sse

PIECES = b"\n|\r|\r\n|data:|data: |event:|event: |id: 1|: ping|:| |x|[DONE]".split(b"|")
streams = st.lists(st.sampled_from(PIECES) | st.binary(max_size=3), max_size=30).map(b"".join)


def lines_of(stream: bytes) -> list[bytes]:
    """The complete lines: ended by CR LF as one, LF or CR."""
    lines, line, i = [], b"", 0
    while i < len(stream):
        if stream[i : i + 1] in (b"\r", b"\n"):
            i += 2 if stream[i : i + 2] == b"\r\n" else 1
            lines.append(line)
            line = b""
        else:
            line += stream[i : i + 1]
            i += 1
    return lines


def interpreted(stream: bytes) -> list[tuple[str, bytes]]:
    """Section 9.2.6 but for ids and reconnection times: (event type, data) of every event that is dispatched."""
    events: list[tuple[str, bytes]] = []
    kind, data = b"", b""
    for line in lines_of(stream):
        if not line:
            if data:
                events.append((kind.decode("utf-8", "replace"), data[:-1]))
            kind, data = b"", b""
        elif not line.startswith(b":"):
            name, _, value = line.partition(b":")
            value = value[1:] if value[:1] == b" " else value
            if name == b"event":
                kind = value
            elif name == b"data":
                data += value + b"\n"
    return events


def dispatched(events: list[sse.Event]) -> list[tuple[str, bytes]]:
    return [(e.type, e.data) for e in events if any(line.partition(b":")[0] == b"data" for line in e.raw.splitlines())]


@given(streams)
@example(b"data: 1\r\rdata: 2\r\r\n")
@example(b"data: 1\r\n\rdata: 2\n\r\n")
@example(b"data: 1\n\n\n\ndata: 2\r\n\r\n")
@example(b"\ndata: 1")
def test_events_are_those_of_the_standard(stream: bytes) -> None:
    end = sse.boundary(stream)
    events = sse.split(stream[:end])
    assert b"".join(event.raw for event in events) == stream[:end]
    assert dispatched(events) == interpreted(stream[:end])


@given(streams)
def test_what_lies_beyond_the_boundary_holds_no_complete_event(stream: bytes) -> None:
    rest = stream[sse.boundary(stream) :]
    undecided = rest.removesuffix(b"\r")  # may be half of a CR LF
    assert b"" not in lines_of(undecided)
    assert interpreted(undecided) == []


@given(streams, st.data())
def test_any_split_gives_the_same_events(stream: bytes, data: st.DataObject) -> None:
    tail, events = b"", []
    position = 0
    while position < len(stream):
        step = data.draw(st.integers(1, len(stream) - position))
        tail += stream[position : position + step]
        position += step
        end = sse.boundary(tail)
        events += sse.split(tail[:end])
        tail = tail[end:]
    assert events == sse.split(stream[: sse.boundary(stream)])
    assert tail == stream[sse.boundary(stream) :]


@given(streams)
def test_count_is_the_number_of_data_lines(stream: bytes) -> None:
    complete = stream[: sse.boundary(stream)]
    assert sse.count(complete) == sum(line.startswith(b"data:") for line in lines_of(complete))


@pytest.mark.parametrize(
    ("raw", "kind", "data"),
    [
        (b"data: a\n\n", "", b"a"),
        (b"data:a\n\n", "", b"a"),
        (b"data:  a\n\n", "", b" a"),
        (b"data: a\ndata: b\n\n", "", b"a\nb"),
        (b"event: ping\r\ndata: {}\r\n\r\n", "ping", b"{}"),
        (b"event: a\revent: b\rdata: 1\r\r", "b", b"1"),
        (b": ping\n\n", "", b""),
        (b"data\n\n", "", b""),
        (b"event: \xff\ndata: 1\n\n", "\ufffd", b"1"),
    ],
)
def test_fields_of_one_event(raw: bytes, kind: str, data: bytes) -> None:
    assert sse.split(raw) == [sse.Event(raw, kind, data)]


@pytest.mark.parametrize(
    ("received", "complete"),
    [
        (b"", 0),
        (b"data: a", 0),
        (b"data: a\n", 0),
        (b"data: a\n\n", 9),
        (b"data: a\n\ndata: b", 9),
        (b"data: a\r\n\r\n", 11),
        (b"data: a\r\n\r", 0),  # the LF of this CR may still come
        (b"data: a\r\n\rd", 10),
        (b"data: a\r\r", 0),
        (b"data: a\r\rd", 9),
        (b"\n", 1),
        (b"\r", 0),
    ],
)
def test_an_event_is_complete_with_its_empty_line(received: bytes, complete: int) -> None:
    assert sse.boundary(received) == complete
