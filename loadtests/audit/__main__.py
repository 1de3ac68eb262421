"""`python -m loadtests.audit`: a thousand requests to a real engine, a fifth of which leave before their end.

Of every endpoint, streamed and not; who leaves does so before the headers, before the first token, early or late. When
all is quiet, the ledger must have the engine's own count of tokens exactly. Exits 1 when it has not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from loadtests.audit import books, traffic
from loadtests.audit.site import MODEL, WORKER, Site

REST_SECONDS = 30.0  # for the engine to come to rest, and for the audit after that


def main() -> int:
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="tollgate-audit-") as scratch, Site(Path(scratch)) as site:
        before = books.calm_counters(site.worker_url, REST_SECONDS)
        since = time.time()
        asks = traffic.asks(random.Random(arguments.seed), MODEL, arguments.requests, arguments.aborts)
        began = time.monotonic()
        seen = asyncio.run(traffic.run(site.target, asks, arguments.clients))
        seconds = time.monotonic() - began
        after = books.calm_counters(site.worker_url, REST_SECONDS)
        engine = books.Counters(*(now - then for now, then in zip(after, before, strict=True)))
        first = books.tally(site.ledger, WORKER, since)
        began = time.monotonic()
        found = books.reconciled(site.ledger, WORKER, since, engine, REST_SECONDS)
        audited = time.monotonic() - began
    exact = (found.prompt_tokens, found.output_tokens) == engine and found.attempts <= arguments.requests
    document = {
        "exact": exact,
        "engine": engine._asdict(),
        "ledger": found._asdict(),
        "ledger_when_quiet": first._asdict(),
        "statuses": seen.statuses,
        "left": seen.left,
        "seconds": round(seconds, 1),
        "audited_after_seconds": round(audited, 1),
    }
    print(json.dumps(document, indent=1))
    return 0 if exact else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.audit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=1_000, metavar="N", help="default: %(default)s")
    parser.add_argument("--aborts", type=float, default=0.2, metavar="SHARE", help="that leave (default %(default)s)")
    parser.add_argument("--clients", type=int, default=12, metavar="N", help="at a time (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of what is asked (default %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
