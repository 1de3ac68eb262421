"""The log: one JSON object per line on standard output, written by a thread so that a slow reader stops no request."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, cast

import orjson

from gateway.spelling import dumps

MAX_WAITING_LINES: Final = 100_000
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
MAX_REDACTED_CHARS = 32 * 1024  # of a prompt: searching it takes the event loop's time
Prompts = Literal["none", "hash", "redacted", "full"]

# Every part is bounded, and begins where it can: the time is linear in the text whatever the text is.
_SECRETS = re.compile(
    r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"  # e-mail addresses
    r"|\b(?:sk|pk|ghp|xox[a-z])[-_][\w-]{8,}"  # keys
    r"|\+?\d(?:[ ./()-]{0,2}\d){6,}"  # telephone, card and account numbers
)
_PROMPT_FIELDS = ("messages", "prompt", "input", "system", "instructions", "query", "documents")


class LogWriter:
    """Takes lines without waiting and writes them in order; when the reader stalls, the oldest wait and the newest
    beyond `MAX_WAITING_LINES` or `MAX_WAITING_BYTES` are counted in `dropped` and announced once there is room.

    `turn` is a file that all processes on one descriptor lock while they write: what a pipe has no room for it takes in
    parts, and another's lines would come between them.
    """

    def __init__(self, descriptor: int | None = None, turn: Path | None = None) -> None:
        self._descriptor = sys.stdout.fileno() if descriptor is None else descriptor
        self._turn = None if turn is None else os.open(turn, os.O_RDWR | os.O_CREAT, 0o600)
        self._gone = False  # nobody reads any more
        self._most_lines = MAX_WAITING_LINES
        self._most_bytes = MAX_WAITING_BYTES
        self._lines: deque[bytes] = deque()
        self._queued_bytes = 0  # ever: one thread counts what comes, the other what goes, and neither needs a lock
        self._taken_bytes = 0
        self._wake = threading.Event()
        self._is_woken = False  # so that most lines need not ask the event
        self._stop = False
        self.dropped = 0
        self._writer = threading.Thread(target=self._run, name="log", daemon=True)
        self._writer.start()

    def write(self, fields: Mapping[str, Any]) -> None:
        """Queues one line. What can not be written as JSON leaves a line that says so: a log line stops no request."""
        try:
            line = dumps(fields, default=str, option=orjson.OPT_APPEND_NEWLINE)
        except orjson.JSONEncodeError as error:
            known = {name: value for name, value in fields.items() if name in ("time", "request_id")}
            line = lost(known, error)
        self.put(line)

    def put(self, line: bytes) -> None:
        """Queues one line, with its end."""
        if (
            len(self._lines) >= self._most_lines
            or self._queued_bytes - self._taken_bytes >= self._most_bytes
            or self._gone
        ):
            self.dropped += 1
            return
        self._queued_bytes += len(line)
        self._lines.append(line)
        if not self._is_woken:
            self._is_woken = True
            self._wake.set()

    def close(self, seconds: float = 5.0) -> None:
        """Writes what is waiting, for at most `seconds`."""
        self._stop = True
        self._wake.set()
        self._writer.join(seconds)
        if self._turn is not None and not self._writer.is_alive():
            os.close(self._turn)
            self._turn = None

    def _run(self) -> None:
        told = 0
        while True:
            self._wake.wait()
            self._wake.clear()
            self._is_woken = False  # before it looks: a line that comes later wakes it again
            while self._lines:
                batch = b"".join(self._lines.popleft() for _ in range(min(len(self._lines), 512)))
                self._taken_bytes += len(batch)
                if not self._put(batch):
                    self._gone = True
                    self._lines.clear()
                    return
            if self.dropped > told:
                told = self.dropped
                self._put(orjson.dumps({"level": "error", "event": "log_lines_dropped", "total": told}) + b"\n")
            if self._stop:
                return
            time.sleep(0.02)  # gathers lines: one write for many, and no thread switch per request

    def _put(self, data: bytes) -> bool:
        if self._turn is not None:
            fcntl.lockf(self._turn, fcntl.LOCK_EX)
        try:
            while data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except BlockingIOError:  # who else has this pipe may have made it so
                    select.select((), (self._descriptor,), (), 1.0)
        except OSError:  # the reader has gone; the log ends, serving does not
            return False
        finally:
            if self._turn is not None:
                fcntl.lockf(self._turn, fcntl.LOCK_UN)
        return True


def lost(known: Mapping[str, Any], error: orjson.JSONEncodeError) -> bytes:
    """The line that says that one was lost, and what is `known` of it."""
    fields = {**known, "level": "error", "event": "log_line_lost", "reason": str(error)}
    return orjson.dumps(fields, default=str, option=orjson.OPT_APPEND_NEWLINE)


MAX_PARAMETERS: Final = 40
MAX_PARAMETER_CHARS: Final = 64
_MOST_KEPT: Final = 256  # sizes whose texts are
_CHARS: Final = tuple([f"<{count} chars>" for count in range(_MOST_KEPT)])
_ITEMS: Final = tuple([f"<{count} items>" for count in range(_MOST_KEPT)])


def masked(fields: dict[str, Any]) -> dict[str, object]:
    """A request's parameters fit for a log: numbers and switches as they are, texts and lists only by size."""
    result: dict[str, object] = {}
    for name, value in fields.items():
        if len(result) == MAX_PARAMETERS:
            break
        key = name if len(name) <= MAX_PARAMETER_CHARS else name[:MAX_PARAMETER_CHARS]
        if isinstance(value, str):
            size = len(value)
            result[key] = _CHARS[size] if size < _MOST_KEPT else f"<{size} chars>"
        elif isinstance(value, list):
            size = len(cast("list[object]", value))
            result[key] = _ITEMS[size] if size < _MOST_KEPT else f"<{size} items>"
        elif isinstance(value, dict):
            result[key] = f"<{len(cast('dict[str, object]', value))} keys>"
        else:
            result[key] = value
    return result


def prompt_for_log(fields: Mapping[str, Any], how: Prompts) -> Any:
    """What the log may show of a prompt, None for nothing: a digest, its beginning with secrets cut, or all of it."""
    if how == "none":
        return None
    prompt = {name: fields[name] for name in _PROMPT_FIELDS if name in fields}
    if how == "full":
        return prompt
    text = orjson.dumps(prompt, option=orjson.OPT_SORT_KEYS)
    if how == "hash":
        return "blake2b:" + hashlib.blake2b(text, digest_size=16).hexdigest()
    return _SECRETS.sub("[redacted]", text.decode()[:MAX_REDACTED_CHARS])
