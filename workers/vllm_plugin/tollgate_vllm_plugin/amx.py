"""Ask the kernel for the AMX tile registers.

On x86-64 Linux a process may only use AMX after it has asked for the tile-data state: without that the first quantized
or LoRA matrix product in bfloat16 ends the worker with SIGILL. vLLM does not ask; it calls this function, through the
`vllm.general_plugins` entry point, in every process before the first kernel runs.
"""

from __future__ import annotations

import ctypes
import logging
import platform
import sys
from collections.abc import Callable

ARCH_PRCTL = 158
ARCH_REQ_XCOMP_PERM = 0x1023
XFEATURE_XTILEDATA = 18

logger = logging.getLogger(__name__)

Syscall = Callable[[int, int, int], int]


def request_tile_permission() -> bool:
    """Whether this process may use AMX now. Safe to call anywhere and as often as you like."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    return granted_by(_syscall)


def granted_by(syscall: Syscall) -> bool:
    """Ask through `syscall`; a CPU or kernel without AMX refuses, which changes nothing."""
    granted = syscall(ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0
    logger.debug("AMX tile permission %s", "granted" if granted else "refused: no AMX here")
    return granted


def _syscall(number: int, first: int, second: int) -> int:
    function = ctypes.CDLL(None, use_errno=True).syscall
    function.restype = ctypes.c_long
    return function(ctypes.c_long(number), ctypes.c_ulong(first), ctypes.c_ulong(second))
