"""The ledger and the engine's counters, side by side."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from gateway.engines import DIALECTS
from gateway.engines.dialect import TellsLoad
from gateway.ledger.sqlite import SqliteBooks

CALM_SECONDS = 2.0  # without anything under way, before a count is taken


class Counters(NamedTuple):
    prompt_tokens: int
    output_tokens: int


class Tally(NamedTuple):
    """Of one worker's attempts since a moment, corrections included; prompts count for each choice, as engines count
    them."""

    attempts: int
    estimated: int
    corrections: int
    prompt_tokens: int
    output_tokens: int
    outcomes: Mapping[str, int]


def counters(url: str) -> Counters:
    dialect = DIALECTS["vllm"]
    assert isinstance(dialect, TellsLoad)
    with urllib.request.urlopen(url + dialect.load_path, timeout=10) as answer:
        load = dialect.load(answer.read())
    return Counters(load.prompt_tokens, load.output_tokens)


def calm_counters(url: str, within: float) -> Counters:
    """Once they have stood still for a while."""
    deadline = time.monotonic() + within
    last, since = counters(url), time.monotonic()
    while time.monotonic() - since < CALM_SECONDS:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{url} does not come to rest")
        time.sleep(0.1)
        if (now := counters(url)) != last:
            last, since = now, time.monotonic()
    return last


def tally(ledger: Path, worker: str, since: float) -> Tally:
    with SqliteBooks(ledger).snapshot() as books:
        values = {"worker": worker, "since": since}
        where = "FROM entries JOIN lines ON lines.id = line WHERE lines.worker = :worker AND opened_at > :since"
        ((prompt, output, corrections),) = books.rows(
            f"SELECT COALESCE(SUM(prompt_tokens * choices), 0), COALESCE(SUM(output_tokens), 0), COUNT(*) {where}",
            values,
        )
        ((attempts, estimated),) = books.rows(
            f"SELECT COUNT(*), COALESCE(SUM(estimated), 0) {where} AND correction = 0", values
        )
        rows = books.rows(f"SELECT outcome, COUNT(*) {where} AND correction = 0 GROUP BY outcome", values)
    return Tally(attempts, estimated, corrections - attempts, prompt, output, {str(name): n for name, n in rows})


def reconciled(ledger: Path, worker: str, since: float, engine: Counters, within: float) -> Tally:
    """The tally once it is the engine's, or as it is when the time is over."""
    deadline = time.monotonic() + within
    while True:
        found = tally(ledger, worker, since)
        if (found.prompt_tokens, found.output_tokens) == engine or time.monotonic() > deadline:
            return found
        time.sleep(0.1)
