"""The log: whole lines in order whatever the reader does, and no more of a prompt than was asked for."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import logs
from gateway.loghandler import JsonHandler
from gateway.logs import MAX_PARAMETERS, MAX_REDACTED_CHARS, LogWriter, masked, prompt_for_log


class Pipe:
    """A log and its reader."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self.writer = LogWriter(self.writing)

    def lines(self) -> list[Any]:
        """Everything that was written, at the end."""
        chunks: list[bytes] = []
        reader = threading.Thread(target=lambda: chunks.extend(iter(lambda: os.read(self.reading, 65536), b"")))
        reader.start()
        self.writer.close(seconds=20)
        os.close(self.writing)
        self.writing = -1
        reader.join()
        return [orjson.loads(line) for line in b"".join(chunks).splitlines() if line]

    def close(self) -> None:
        self.writer.close(seconds=0.1)
        for descriptor in (self.reading, self.writing):
            if descriptor >= 0:
                os.close(descriptor)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def fill(pipe: Pipe) -> None:
    """Leaves no room in the pipe, as a reader that has stalled."""
    os.set_blocking(pipe.writing, False)
    try:
        while True:
            os.write(pipe.writing, b"\n" * 4096)
    except BlockingIOError:
        os.set_blocking(pipe.writing, True)


def until(reached: Any) -> None:
    give_up = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < give_up
        time.sleep(0.001)


# Writing


def test_lines_come_in_order_and_all_of_them_by_the_time_it_is_closed(pipe: Pipe) -> None:
    for number in range(2000):
        pipe.writer.write({"n": number})
    assert [line["n"] for line in pipe.lines()] == list(range(2000))
    assert pipe.writer.dropped == 0


def test_what_json_has_no_type_for_is_written_as_text(pipe: Pipe) -> None:
    pipe.writer.write({"path": Path("/x"), "text": 'a"\n\u2028'})
    assert pipe.lines() == [{"path": "/x", "text": 'a"\n\u2028'}]


def nested(depth: int) -> list[Any]:
    return [nested(depth - 1)] if depth else []


@pytest.mark.parametrize("value", [2**70, "\ud800", nested(300), {1: 2}])
def test_what_can_not_be_written_is_no_reason_to_fail(pipe: Pipe, value: object) -> None:
    pipe.writer.write({"time": 1.5, "request_id": "r", "x": value})
    pipe.writer.write({"n": 1})
    lost, next_line = pipe.lines()
    assert (lost["event"], lost["time"], lost["request_id"], lost["level"]) == ("log_line_lost", 1.5, "r", "error")
    assert lost["reason"]
    assert next_line == {"n": 1}


@pytest.mark.parametrize("bound", ["_most_lines", "_most_bytes"])
def test_a_reader_that_stalls_costs_lines_and_is_told_how_many(pipe: Pipe, bound: str) -> None:
    line = {"text": "x" * 991}  # 1,002 bytes with its frame and its end
    setattr(pipe.writer, bound, 10 if bound == "_most_lines" else 10 * 1002)
    fill(pipe)
    pipe.writer.write(line)
    until(lambda: not pipe.writer._lines)  # it has been taken and waits in the pipe's place
    for _ in range(15):
        pipe.writer.write(line)
    assert pipe.writer.dropped == 5
    *written, last = pipe.lines()
    assert written == [line] * 11
    assert last == {"level": "error", "event": "log_lines_dropped", "total": 5}


def test_a_pipe_that_does_not_block_is_waited_for(pipe: Pipe) -> None:
    fill(pipe)
    os.set_blocking(pipe.writing, False)
    pipe.writer.write({"n": 1})
    until(lambda: not pipe.writer._lines)
    assert pipe.lines() == [{"n": 1}]


def test_a_reader_that_is_gone_stops_the_log_and_nothing_else(pipe: Pipe) -> None:
    os.close(pipe.reading)
    pipe.reading = -1
    pipe.writer.write({"n": 1})
    until(lambda: not pipe.writer._writer.is_alive())
    for _ in range(3):
        pipe.writer.write({"n": 2})
    assert pipe.writer.dropped == 3
    assert not pipe.writer._lines
    pipe.writer.close()


def test_closing_waits_for_a_reader_that_has_stalled_only_so_long(pipe: Pipe) -> None:
    fill(pipe)
    pipe.writer.write({"n": 1})
    pipe.writer.close(seconds=0.01)
    assert pipe.writer._writer.is_alive()
    os.read(pipe.reading, 65536)
    pipe.writer.close()
    assert not pipe.writer._writer.is_alive()


@contextmanager
def datagrams() -> Iterator[tuple[socket.socket, int]]:
    """A reader that sees each write by itself."""
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with reader, writer:
        reader.settimeout(20)
        yield reader, writer.fileno()


def test_lines_are_gathered_into_few_writes() -> None:
    with datagrams() as (reader, descriptor):
        writer = LogWriter(descriptor)
        writer.write({"n": 0})
        reader.recv(100_000)  # it now sleeps, to gather
        for number in range(100):
            writer.write({"n": number})
        writer.close()
        assert len(reader.recv(100_000).splitlines()) == 100


def test_processes_that_share_a_descriptor_take_turns(tmp_path: Path) -> None:
    turn = tmp_path / "turn"
    with datagrams() as (reader, descriptor):
        writers = [LogWriter(descriptor, turn) for _ in range(2)]
        for writer in writers:
            writer.write({"n": 1})
        for writer in writers:
            writer.close()
            writer.close()
        assert [reader.recv(1000) for _ in writers] == [b'{"n":1}\n'] * 2
    assert turn.stat().st_mode & 0o077 == 0


# The standard library's records


def handled(pipe: Pipe, *arguments: Any, **keywords: Any) -> dict[str, Any]:
    logger = logging.Logger("tollgate.test")
    logger.addHandler(JsonHandler(pipe.writer))
    logger.error(*arguments, **keywords)
    (line,) = pipe.lines()
    return line


def test_a_record_becomes_a_line(pipe: Pipe) -> None:
    line = handled(pipe, "worker %s is %s", "w1", "down", extra={"fields": {"worker": "w1"}})
    assert line.pop("time") == pytest.approx(time.time(), abs=60)
    assert line == {"level": "error", "logger": "tollgate.test", "event": "worker w1 is down", "worker": "w1"}


def test_a_record_with_a_traceback_is_one_line(pipe: Pipe) -> None:
    try:
        raise ValueError("why")
    except ValueError:
        line = handled(pipe, "failed", exc_info=True)
    assert line["traceback"].startswith("Traceback")
    assert line["traceback"].endswith("ValueError: why")


@pytest.mark.parametrize("arguments", [("%d", "x"), ("%s",), ("no place", 1), ("%z", 1)])
def test_a_record_that_does_not_fit_its_own_arguments_is_logged_all_the_same(pipe: Pipe, arguments: Any) -> None:
    assert handled(pipe, *arguments)["event"] == arguments[0]


# What a request may show


def test_parameters_are_shown_without_their_texts() -> None:
    fields = {
        "model": "chat",
        "temperature": 0.5,
        "n": 2,
        "stream": True,
        "stop": None,
        "messages": [{"role": "user", "content": "secret"}],
        "response_format": {"type": "json_object"},
    }
    assert masked(fields) == {
        "model": "<4 chars>",
        "temperature": 0.5,
        "n": 2,
        "stream": True,
        "stop": None,
        "messages": "<1 items>",
        "response_format": "<1 keys>",
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


def test_of_very_many_parameters_the_first_are_shown() -> None:
    shown = masked({f"p{number}" + "x" * 100: number for number in range(1000)})
    assert list(shown.values()) == list(range(MAX_PARAMETERS))
    assert max(map(len, shown)) == 64


@pytest.mark.parametrize("size", [0, 1, 255, 256, 100_000])
def test_sizes_are_told_as_they_are(size: int) -> None:
    fields = {"input": "x" * size, "stop": [0] * size, "metadata": dict.fromkeys(range(size))}
    assert masked(fields) == {"input": f"<{size} chars>", "stop": f"<{size} items>", "metadata": f"<{size} keys>"}


@given(st.dictionaries(st.text(max_size=100), json_values, max_size=8))
def test_masked_parameters_are_few_short_and_say_nothing(fields: dict[str, Any]) -> None:
    shown = masked(fields)
    assert len(shown) <= MAX_PARAMETERS
    for name, value in shown.items():
        assert len(name) <= 64
        assert not isinstance(value, str) or value.startswith("<")
        assert not isinstance(value, list | dict)


PROMPT = {"model": "m", "messages": [{"content": "hi"}], "input": "x", "temperature": 1}


def test_a_prompt_is_shown_as_asked() -> None:
    assert prompt_for_log(PROMPT, "none") is None
    assert prompt_for_log(PROMPT, "full") == {"messages": [{"content": "hi"}], "input": "x"}
    assert prompt_for_log(PROMPT, "redacted") == '{"input":"x","messages":[{"content":"hi"}]}'
    digest = prompt_for_log(PROMPT, "hash")
    assert digest.startswith("blake2b:")
    assert digest == prompt_for_log({"input": "x", "messages": [{"content": "hi"}]}, "hash")
    assert digest != prompt_for_log({"input": "y", "messages": [{"content": "hi"}]}, "hash")


@pytest.mark.parametrize(
    "secret",
    [
        "ann.b+c@mail.example.com",
        "sk-tg-Zm9vYmFyYmF6cXV4",
        "sk-proj-abcdefgh12345678",
        "ghp_abcdefgh12345678",
        "xoxb-1234567890-abc",
        "+49 (30) 123 45-67",
        "4111 1111 1111 1111",
        "0123456789",
    ],
)
@pytest.mark.parametrize("around", ["%s", "call %s, please", "<%s>", "é %s."])
def test_secrets_are_cut_out(secret: str, around: str) -> None:
    shown = prompt_for_log({"prompt": around % secret}, "redacted")
    assert secret not in shown
    assert shown == orjson.dumps({"prompt": around % "[redacted]"}).decode()


@pytest.mark.parametrize("text", ["a@b", "version 1.2.3", "sk-short", "12 34 56", "task-force-one-two"])
def test_what_is_no_secret_stays(text: str) -> None:
    assert prompt_for_log({"prompt": text}, "redacted") == orjson.dumps({"prompt": text}).decode()


@pytest.mark.parametrize("text", ["a", "a.", "-", "a@", "1 ", "a@b.", "+1", "sk-", "é"])
def test_no_text_takes_long_to_search(text: str) -> None:
    """The time limit of the test is the assertion: a search that grows with the square would need minutes."""
    shown = prompt_for_log({"prompt": text * 10_000_000}, "redacted")
    assert len(shown) <= 12 * MAX_REDACTED_CHARS


def test_no_beginning_of_a_prompt_takes_long_to_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_REDACTED_CHARS", 2_000_000)
    for text in ("a", "a.", "-"):
        prompt_for_log({"prompt": text * 1_000_000}, "redacted")
