"""Real gateways and their settlers, held against what the worker says it did.

A worker has heard of every attempt whose row is no `crashed` one; and of what it has heard of there is a row.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from gateway.ledger.journal.reader import journals
from gateway.ledger.opening import open_books
from tests.eventually import eventually
from tests.gateway_process import GatewayProcess
from tests.live_worker import LiveWorker

Row = dict[str, Any]
_COLUMNS = (
    "attempt_id",
    "request_id",
    "correction",
    "tenant",
    "outcome",
    "estimated",
    "final",
    "prompt_tokens",
    "output_tokens",
    "cost_nanousd",
)
_SUMS = "SELECT SUM(requests), SUM(attempts), SUM(prompt_tokens), SUM(output_tokens), SUM(cost_nanousd) FROM rollups"


def processes_of(gateway: GatewayProcess) -> tuple[list[int], list[int]]:
    """Its settler, and the other processes it has started."""
    pid = gateway.process.pid
    listed = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    settlers = [child for child in listed if b"gateway.settler" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return settlers, [child for child in listed if child not in settlers]


def wait_idle(directory: Path) -> None:
    """Until no journal is left: every gateway has ended, one way or the other, and is settled."""
    eventually(lambda: not journals(directory / "ledger.journal") or None, "all journals are settled")


def check(directory: Path, worker: LiveWorker, ledger: str) -> list[Row]:
    """The rows of the ledger against what the worker did: the first of each attempt that somebody asked for."""
    wait_idle(directory)
    worker.wait_idle()
    assert not list((directory / "ledger.journal").glob("damaged-*"))
    with open_books(ledger).snapshot() as snapshot:
        found = snapshot.rows(f"SELECT {', '.join(_COLUMNS)} FROM attempts")
        ((*sums,),) = snapshot.rows(_SUMS)
    rows = [dict(zip(_COLUMNS, row, strict=True)) for row in found]
    done = worker.work()
    first = [row for row in rows if not row["correction"]]  # the audit corrects what was billed at its checkpoint
    asked = [row for row in first if row["tenant"] != "__probe__"]
    arrived, booked = Counter(name for name, _ in done), Counter(row["request_id"] for row in asked)
    assert not arrived - booked, "lost"
    never_sent = booked - arrived
    unsent = [row for row in asked if row["request_id"] in never_sent]
    assert {row["outcome"] for row in unsent} <= {"crashed", "failed", "aborted"}
    assert len({(row["attempt_id"], row["correction"]) for row in rows}) == len(rows)
    finals = Counter(row["request_id"] for row in first if row["final"])
    assert set(finals.values()) == {1}, "each request has one last attempt"
    assert finals.keys() == {row["request_id"] for row in rows}
    assert tuple(map(int, sums)) == (
        len(finals),
        len(first),
        *(sum(row[name] for row in rows) for name in ("prompt_tokens", "output_tokens", "cost_nanousd")),
    )
    sent = dict(done)
    for row in asked:
        if row["outcome"] == "ok":
            assert row["output_tokens"] == sent[row["request_id"]], "an answer that was whole is billed as it was"
            assert not row["estimated"]
    return asked
