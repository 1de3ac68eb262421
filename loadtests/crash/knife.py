"""Counts the boundaries a process crosses, and kills it at one of them.

A boundary stands before and after each operation that another process, a disk or a server can see: system calls,
statements, what goes over a socket, and the copying of a record into a journal. They are seen with the interpreter's
own hook for profilers, so the program that is tested knows nothing of it.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import threading
from pathlib import Path
from types import BuiltinMethodType, FrameType

_SYSTEM = {
    "posix": {
        "open", "close", "write", "mkdir", "rename", "unlink", "rmdir", "fsync", "fdatasync", "posix_fallocate", "dup",
        "listdir", "scandir", "stat",
    },
    "fcntl": {"flock"},
}  # fmt: skip
_STATEMENTS = {"execute", "executemany", "commit", "rollback", "close", "fetchone"}
_SOCKET = {"send", "sendall", "recv", "recv_into", "connect"}
# Python's own functions, by the end of their file.
_FUNCTIONS = {
    "ledger/journal/writer.py": {"_write"},
    "psycopg/generators.py": {"_send", "_fetch_many", "_fetch", "_connect"},
    "psycopg/connection.py": {"execute", "wait", "close"},
    "psycopg/transaction.py": {"__enter__", "__exit__"},
    "redis/connection.py": {"send_packed_command", "read_response"},
    "redis/client.py": {"execute_command"},
}


class Knife:
    """`with Knife(at):` kills this process at its boundary number `at`, counted from 1; at none where that is 0."""

    def __init__(self, at: int = 0) -> None:
        self.crossed: list[str] = []  # what they are
        self._at = at
        self._count = 0

    def __enter__(self) -> Knife:
        threading.setprofile(self._event)
        sys.setprofile(self._event)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)

    def _event(self, frame: FrameType, event: str, arg: object) -> None:
        name = _operation(arg) if event in ("c_call", "c_return", "c_exception") else _function(frame)
        if not name:
            return
        self._count += 1
        if self._count == self._at:
            os.kill(os.getpid(), signal.SIGKILL)
        if not self._at:
            side = "before" if event in ("call", "c_call") else "after"
            self.crossed.append(f"{side} {name} in {_place(frame)}")


def _operation(function: object) -> str:
    if not isinstance(function, BuiltinMethodType):
        return ""
    name, owner = function.__name__, function.__self__
    if name in _SYSTEM.get(str(function.__module__), ()):
        return name
    if name in _STATEMENTS and isinstance(owner, sqlite3.Connection | sqlite3.Cursor):
        return f"sqlite {name}"
    if name in _SOCKET and type(owner).__name__ == "socket":
        return f"socket {name}"
    return ""


def _function(frame: FrameType) -> str:
    path = frame.f_code.co_filename
    for end, names in _FUNCTIONS.items():
        if path.endswith(end) and frame.f_code.co_name in names:
            return f"{Path(end).parts[-2]} {frame.f_code.co_name}"
    return ""


def _place(frame: FrameType | None) -> str:
    """The innermost line of the gateway's own."""
    while frame is not None:
        parts = Path(frame.f_code.co_filename).parts
        if "gateway" in parts and "site-packages" not in parts:
            at = len(parts) - 1 - parts[::-1].index("gateway")
            return f"{'/'.join(parts[at:])}:{frame.f_lineno}"
        frame = frame.f_back
    return "a library"
