"""A client that does not take what is written to it, or hardly."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios


class StallWatch:
    """From `begin` to `end`, aborts the connection when the client takes less than `least_bytes` in half of `seconds`.

    Most clients are behind for a moment only: what one takes is measured in the second half of its time.
    """

    __slots__ = ("_half", "_least_bytes", "_loop", "_timer", "_transport")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, seconds: float, least_bytes: int
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._half = seconds / 2
        self._least_bytes = least_bytes
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(self._half, self._look, None)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, before: int | None) -> None:
        now = untaken_bytes(self._transport)
        if before is not None and before - now < self._least_bytes:
            self._timer = None
            self._transport.abort()
        else:
            self._timer = self._loop.call_later(self._half, self._look, now)


def untaken_bytes(transport: asyncio.Transport) -> int:
    """What was written and the client has not taken: in the transport and in the kernel, which holds megabytes for a
    connection and takes more in large steps only.

    Without the kernel's part where it has no answer (on Linux: tcp(7), SIOCOUTQ).
    """
    held = transport.get_write_buffer_size()
    peer: socket.socket | None = transport.get_extra_info("socket")
    if peer is None:
        return held
    try:
        (in_kernel,) = struct.unpack("i", fcntl.ioctl(peer.fileno(), termios.TIOCOUTQ, bytes(4)))
    except OSError:
        return held
    return held + in_kernel
