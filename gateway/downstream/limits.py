"""How much of a process its clients may take, each bound with its reason."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

logger = logging.getLogger("tollgate.downstream")

KIB, MIB = 1024, 1024 * 1024
TOLD_SECONDS = 10.0  # between two lines about clients turned away: a flood of them is one event


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and bytes; the defaults are those of a running gateway."""

    max_body_bytes: int = 20 * MIB
    # Of all bodies on their way in one process: a dozen of the largest, thousands of ordinary ones.
    max_receiving_bytes: int = 256 * MIB
    # Two descriptors a stream: the composition root derives it from the process's limit.
    max_connections: int = 10_000

    # A head is one packet or a few; a minute is what nginx gives, and half of it outlasts every retransmission that
    # still comes to something.
    head_seconds: float = 30.0
    # A body may take as long as it needs while it makes progress: in each window this much, 4 KB/s, a tenth of a poor
    # mobile uplink. It bounds how long the largest body holds its memory (20 MB: 85 minutes).
    body_seconds: float = 30.0
    min_body_bytes: int = 120 * KIB

    # What may wait for a client before its worker is read no more. One more read of a worker (64 KB) comes on top, and
    # a transport keeps whole what it has sent in part: together 256 KB of memory for a stream that nobody takes.
    max_unsent_bytes: int = 32 * KIB
    # An answer may be taken as slowly: 1 KB/s is less than a stream of tokens brings, and more than an attacker who
    # reads a byte a minute.
    stall_seconds: float = 60.0
    min_taken_bytes: int = 30 * KIB  # in half of that time

    # A body this small is cheaper to take than to look at twice.
    screen_above_bytes: int = 64 * KIB
    # Requests sent ahead of their answers: reading goes on up to this much, so that a client that leaves is noticed.
    max_pipelined: int = 64
    max_pipelined_bytes: int = 64 * KIB

    # After the last answer on a connection whose client is still sending: closing at once would reset it, and a reset
    # can overtake the answer (RFC 9112, 9.6).
    linger_seconds: float = 5.0
    # While the gateway drains: httpx, and with it the SDKs, keeps an idle connection for as long, so that one which is
    # still in use is not quiet for longer.
    quiet_seconds: float = 5.0
    max_lingering: int = 64  # clients turned away that are held for it, beyond `max_connections`


class Intake:
    """What all connections of a process share."""

    __slots__ = (
        "_clock",
        "_told_at",
        "common_lines",
        "connections",
        "draining",
        "limits",
        "receiving_bytes",
        "turned_away",
    )

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self.draining = False  # who is connected from now on came too late to stay
        self.common_lines: list[bytes] = []  # of the head of every answer
        self.connections = 0
        self.receiving_bytes = 0  # of bodies that are not whole yet
        self.turned_away = 0  # clients that found `max_connections`
        self._clock = clock
        self._told_at = -TOLD_SECONDS

    def turn_away(self) -> None:
        """One more client that finds no place; the log hears of it now and then."""
        self.turned_away += 1
        now = self._clock()
        if now - self._told_at >= TOLD_SECONDS:
            self._told_at = now
            logger.warning(
                "client connections refused",
                extra={"fields": {"limit": self.limits.max_connections, "total": self.turned_away}},
            )
