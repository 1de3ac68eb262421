"""What an engine says of itself on its Prometheus page: how much it has to do, and the tokens it has worked on."""

from __future__ import annotations

import re
from typing import NamedTuple

UNKNOWN = -1
MOST = 2**63 - 1  # what the ledger holds; a counter beyond is none

_STARTED = b"process_start_time_seconds"  # the client library's own, the same on every page it writes


# An info metric's labels are its message, and its value is always 1.
_BLOCKS = re.compile(rb'[{,]num_gpu_blocks="(\d{1,12})"')
_BLOCK_SIZE = re.compile(rb'[{,]block_size="(\d{1,6})"')
_NO_PREFIXES = b'enable_prefix_caching="False"'

_SAMPLE = re.compile(rb"((?:\{.*\})?)[ \t]+(\S+)")  # what follows a name; labels may hold anything but a line end


class Load(NamedTuple):
    """UNKNOWN (-1) is what the engine does not say. Counters are sums over its replicas since `started`."""

    running: int = UNKNOWN  # requests it works on
    waiting: int = UNKNOWN  # requests in its queue
    kv_usage: float = UNKNOWN  # of its KV cache, 0..1
    prompt_tokens: int = UNKNOWN
    output_tokens: int = UNKNOWN
    started: float = 0.0  # Unix seconds; 0 where unknown
    cache_tokens: int = UNKNOWN  # that its prefix caches have room for, all together


NO_LOAD = Load()


Names = str | tuple[str, ...]


class Page:
    """The names under which one engine's page has them; "" for what it does not have. Of several names the first that
    is found counts; `name{label="value"}` is only those samples of the name that have that label. `cache_info` is a
    metric with the labels of vLLM's `cache_config_info`.

    https://prometheus.io/docs/instrumenting/exposition_formats/: one sample a line, `name{labels} value [timestamp]`.
    """

    def __init__(
        self,
        *,
        running: Names = "",
        waiting: Names = "",
        kv_usage: Names = "",
        prompt_tokens: Names = "",
        output_tokens: Names = "",
        cache_tokens: Names = "",
        cache_info: str = "",
    ) -> None:
        self._names = [
            _sought(names) for names in (running, waiting, kv_usage, prompt_tokens, output_tokens, cache_tokens)
        ]
        self._cache_info = cache_info.encode()

    def read(self, page: bytes) -> Load:
        """Never raises: what can not be read is not known.

        A page is mostly histograms, a hundred kilobytes of them: the wanted names are looked for, not each line at."""
        running, waiting, kv_usage, prompt, output, cache = [_first(page, names) for names in self._names]
        started = _samples(page, _STARTED, b"")
        return Load(
            _sum(running),
            _sum(waiting),
            sum(kv_usage) / len(kv_usage) if kv_usage else UNKNOWN,
            _sum(prompt),
            _sum(output),
            min(started) if started else 0.0,
            _configured(page, self._cache_info) if self._cache_info else _sum(cache),
        )


def _sought(names: Names) -> list[tuple[bytes, bytes]]:
    """Each name and the label it is to have."""
    spelled = (names,) if isinstance(names, str) else names
    parts = [name.encode().partition(b"{") for name in spelled if name]
    return [(name, label.removesuffix(b"}")) for name, _, label in parts]


def _first(page: bytes, sought: list[tuple[bytes, bytes]]) -> list[float]:
    for name, label in sought:
        values = _samples(page, name, label)
        if values:
            return values
    return []


def _samples(page: bytes, name: bytes, label: bytes) -> list[float]:
    """The values of one metric, over all its labels or those that include this one."""
    line = b"\n" + name
    starts = [0] if page.startswith(name) else []
    at = page.find(line)
    while at >= 0:
        starts.append(at + 1)
        at = page.find(line, at + 1)
    values: list[float] = []
    for start in starts:
        sample = _SAMPLE.match(page, start + len(name))
        if sample is None or (label and label not in sample[1]):  # a longer name, or nothing that can be read
            continue
        value = _number(sample[2])
        if value is not None:
            values.append(value)
    return values


def _configured(page: bytes, name: bytes) -> int:
    """Tokens of KV cache by its configuration; none where prefixes are not kept. Of engines side by side each one's
    sample has the blocks of all: any will do, and it stands near the end of the page."""
    at = page.rfind(b"\n" + name + b"{")
    if at < 0:
        return UNKNOWN
    end = page.find(b"\n", at + 1)
    line = page[at : end if end >= 0 else len(page)]
    if _NO_PREFIXES in line:
        return 0
    blocks, size = _BLOCKS.search(line), _BLOCK_SIZE.search(line)
    return UNKNOWN if blocks is None or size is None else int(blocks[1]) * int(size[1])


def _sum(values: list[float]) -> int:
    """Of one metric over its labels; UNKNOWN when there is none."""
    total = sum(int(value) for value in values)
    return total if values and total <= MOST else UNKNOWN


def _number(text: bytes) -> float | None:
    """A sample's value, None for what neither a gauge of these nor a counter can have."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= MOST else None
