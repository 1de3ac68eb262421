"""The clocks, bound once: compiled code that says `time.monotonic` looks it up in its module at every call, which takes
twice as long as reading the clock."""

from __future__ import annotations

import time
from typing import Final

monotonic: Final = time.monotonic  # seconds since some moment, never set back
wall: Final = time.time  # Unix seconds
wall_ns: Final = time.time_ns
