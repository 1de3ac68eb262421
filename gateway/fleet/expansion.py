"""Which workers a configuration stands for, given what was found behind those of its addresses that stand for several.

No two of them have the same name, and none is there twice; what was done about that is said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import urlsplit

from gateway.table import Worker

MOST_WARNINGS = 20  # of one address
_DIGEST_CHARS = 8


class Behind(NamedTuple):
    """The URLs found, and the address they were found by."""

    address: str
    urls: Sequence[str]


class Expansion(NamedTuple):
    workers: dict[str, Worker]  # by name, those found where their configured one stands
    warnings: dict[str, tuple[str, ...]]  # by the configured worker's name


def expand(configured: Mapping[str, Worker], behind: Mapping[str, Behind]) -> Expansion:
    """`behind` has an entry for each configured worker that stands for several. Those configured under a name or at a
    URL go before those found, and those found by an earlier entry before those by a later one."""
    workers: dict[str, Worker] = {}
    taken = set(configured)
    serving = {_served(worker): name for name, worker in configured.items() if name not in behind}
    warnings: dict[str, tuple[str, ...]] = {}
    for name, template in configured.items():
        if name not in behind:
            workers[name] = template
            continue
        said: list[str] = []
        for url in behind[name].urls:
            worker = replace(template, name=f"{name}-{_tail(behind[name].address, url)}", url=url)
            if twin := serving.get(_served(worker)):
                said.append(f"{url} is the worker `{twin}` already, and is one worker")
                continue
            if worker.name in taken:
                own = f"{worker.name}-{sha256(url.encode()).hexdigest()[:_DIGEST_CHARS]}"
                said.append(f"{url} is called `{own}`: another worker is `{worker.name}`")
                worker = replace(worker, name=own)
            if worker.name in taken:  # somebody has configured even that
                said.append(f"{url} is left out: another worker is `{worker.name}`")
                continue
            taken.add(worker.name)
            serving[_served(worker)] = worker.name
            workers[worker.name] = worker
        if len(said) > MOST_WARNINGS:
            said[MOST_WARNINGS:] = [f"and {len(said) - MOST_WARNINGS} more"]
        warnings[name] = tuple(said)
    return Expansion(workers, warnings)


def _served(worker: Worker) -> tuple[str, str, str]:
    """One engine may serve several models, each to a worker of its own."""
    return worker.url.rstrip("/"), worker.model, worker.version


def _tail(address: str, url: str) -> str:
    """What tells it from its siblings: of a name in DNS they share the port."""
    tail = urlsplit(url).hostname or "" if address.startswith("dns+") else url.partition("://")[2]
    return re.sub(r"[^A-Za-z0-9._]+", "-", tail).strip("-")
