"""What an engine says of itself on its Prometheus page: how much it has to do, and the tokens it has worked on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

UNKNOWN = -1
MOST = 2**63 - 1  # what the ledger holds; a counter beyond is none

STARTED = "process_start_time_seconds"  # the client library's own, the same on every page it writes


class Load(NamedTuple):
    """UNKNOWN (-1) is what the engine does not say. Counters are sums over its replicas since `started`."""

    running: int = UNKNOWN  # requests it works on
    waiting: int = UNKNOWN  # requests in its queue
    kv_usage: float = UNKNOWN  # of its KV cache, 0..1
    prompt_tokens: int = UNKNOWN
    output_tokens: int = UNKNOWN
    started: float = 0.0  # Unix seconds; 0 where unknown


NO_LOAD = Load()


class Page:
    """The names under which one engine's page has them; "" for what it does not have.

    https://prometheus.io/docs/instrumenting/exposition_formats/: one sample a line, `name{labels} value [timestamp]`.
    """

    def __init__(
        self,
        *,
        running: str = "",
        waiting: str = "",
        kv_usage: str = "",
        prompt_tokens: str = "",
        output_tokens: str = "",
    ) -> None:
        self._names = (running, waiting, kv_usage, prompt_tokens, output_tokens)
        wanted = "|".join(re.escape(name) for name in (*self._names, STARTED) if name)
        # Only these lines are looked into: a page is mostly histograms. Labels may hold anything but a line end.
        self._sample = re.compile(rf"^({wanted})(?:\{{.*\}})?[ \t]+(\S+)".encode(), re.MULTILINE)

    def read(self, page: bytes) -> Load:
        """Never raises: what can not be read is not known."""
        found: dict[str, list[float]] = {}
        for name, value in self._sample.findall(page):
            number = _number(value)
            if number is not None:
                found.setdefault(name.decode(), []).append(number)
        running, waiting, kv_usage, prompt, output = (found.get(name, []) for name in self._names)
        return Load(
            _sum(running),
            _sum(waiting),
            sum(kv_usage) / len(kv_usage) if kv_usage else UNKNOWN,
            _sum(prompt),
            _sum(output),
            min(found.get(STARTED, [0.0])),
        )


def _sum(values: Iterable[float]) -> int:
    """Of one metric over its labels; UNKNOWN when there is none."""
    values = list(values)
    total = sum(int(value) for value in values)
    return total if values and total <= MOST else UNKNOWN


def _number(text: bytes) -> float | None:
    """A sample's value, None for what neither a gauge of these nor a counter can have."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= MOST else None
