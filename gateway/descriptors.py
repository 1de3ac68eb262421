"""How many file descriptors the process may have open, and how many clients that is."""

from __future__ import annotations

import resource

PER_STREAM = 2  # the client's connection and the worker's
# Listener, ledger, log, state, probes (one per worker at a time), clients that are being turned away.
RESERVE = 256
MOST = 1_048_576  # hard limits can be absurd, or infinite; no process holds more than this


def raise_limit() -> int:
    """Lifts the soft limit to the hard one and returns it. The low default of 1,024 is there for programs that use
    select(2), which can watch no descriptor above; nothing here does that but with standard output."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # a system may allow less than it says
        return soft
    return wanted


def clients_within(descriptors: int) -> int:
    """How many clients may be connected so that each can have its worker's connection; at least one."""
    reserve = min(RESERVE, descriptors // 4)
    return max(1, (descriptors - reserve) // PER_STREAM)
