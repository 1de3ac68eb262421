"""Who listens on a port of this machine, read from /proc."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path

LISTEN = "0A"  # include/net/tcp_states.h
COMMAND_SHOWN = 120


def why_taken(port: int) -> str | None:
    """None when an engine could bind the port now; otherwise why not, with the process that has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"port {port} is taken by {_listener(port)}"
            return f"port {port} can not be used: {error.strerror}"
    return None


def _listener(port: int) -> str:
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and not sockets.isdisjoint(_open_files(int(entry))):
            return f"pid {entry} ({_command(int(entry))})"
    return "a process that this user may not see"


def _open_files(pid: int) -> set[str]:
    """What the descriptors of a process lead to; empty for another user's and for one that has ended."""
    found: set[str] = set()
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found


def _listening_inodes(port: int) -> set[str]:
    inodes: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue  # no IPv6
        for row in rows:
            # sl local_address remote_address state queues timer retransmits uid timeout inode …
            fields = row.split()
            if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    return inodes


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return "which has just ended"
    text = words.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    return text if len(text) <= COMMAND_SHOWN else text[: COMMAND_SHOWN - 1] + "…"
