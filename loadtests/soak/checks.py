"""What has to hold at the end of a soak. Pure: everything is handed in."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from loadtests.soak.site import Counters, Row
from loadtests.soak.traffic import Seen
from loadtests.stats import percentile

Samples = Sequence[tuple[str, dict[str, str], float]]

BLOCKS = 30  # samples of memory are averaged into so many: neighbours in time are not independent
GROWTH_BYTES = 4 * 1024 * 1024  # over the whole run: less is the allocator's own affair
LAG_SECONDS = 0.25  # of the event loop, at the 99th percentile


class Check(NamedTuple):
    what: str
    holds: bool
    said: str


class Slope(NamedTuple):
    """Of a straight line through samples, per second, with its 95 % confidence interval."""

    value: float
    low: float
    high: float


def slope(points: Sequence[tuple[float, float]], blocks: int = BLOCKS) -> Slope:
    """Least squares through the means of equal blocks of (time, value); NaN for fewer than three points."""
    size = max(1, len(points) // blocks)
    parts = [points[at : at + size] for at in range(0, len(points) - size + 1, size)]
    xs = [fmean(x for x, _ in part) for part in parts]
    ys = [fmean(y for _, y in part) for part in parts]
    n = len(xs)
    if n < 3:
        return Slope(math.nan, math.nan, math.nan)
    x_mean, y_mean = fmean(xs), fmean(ys)
    spread = sum((x - x_mean) ** 2 for x in xs)
    value = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True)) / spread
    residual = sum((y - y_mean - value * (x - x_mean)) ** 2 for x, y in zip(xs, ys, strict=True))
    reach = (1.96 + 2.4 / (n - 2)) * math.sqrt(residual / (n - 2) / spread)  # Student's t, near enough from n = 5 on
    return Slope(value, value - reach, value + reach)


def memory(points: Sequence[tuple[float, float]]) -> Check:
    """`points` are (seconds, bytes), the warm-up left out."""
    found, seconds = slope(points), points[-1][0] - points[0][0] if points else 0.0
    value, low, high = (each * 3600 / 2**20 for each in found)
    said = (
        f"{value:+.2f} MiB/h (95 % sure: {low:+.2f} to {high:+.2f}), "
        f"{found.value * seconds / 2**20:+.2f} MiB in {seconds:.0f} s, {points[-1][1] / 2**20:.1f} MiB at the end"
    )
    return Check("memory does not grow", not (found.low > 0 and found.value * seconds > GROWTH_BYTES), said)


def lag(seconds: Sequence[float]) -> Check:
    ordered = sorted(seconds)
    high = percentile(ordered, 0.99)
    said = f"p50 {percentile(ordered, 0.5) * 1000:.1f} ms, p99 {high * 1000:.1f} ms, most {max(ordered) * 1000:.1f} ms"
    return Check("the event loop keeps up", high <= LAG_SECONDS, said)


def descriptors(before: int, after: int, slack: int) -> Check:
    """`slack` is how many may come and go by themselves: a probe's connection per worker."""
    return Check("descriptors are given back", after <= before + slack, f"{before} before, {after} after")


def nothing_left(samples: Samples) -> Check:
    names = ("tollgate_worker_inflight", "tollgate_worker_pending_tokens", "tollgate_worker_connections")
    left = {name: total(samples, name) for name in (*names, "tollgate_ledger_queued")}
    return Check("nothing is under way", not any(left.values()), ", ".join(f"{n[9:]} {v:g}" for n, v in left.items()))


def clients(seen: Seen, samples: Samples, left_waiting: int) -> list[Check]:
    """What the gateway counted is what its clients saw. One that left does not know how far its answer had come;
    `left_waiting` of them left while their request waited for a worker."""
    counted: Counter[int] = Counter()
    for name, labels, value in samples:
        if name == "tollgate_requests_total":
            counted[int(labels["status"])] += int(value)
    surplus = {status: counted[status] - seen.statuses[status] for status in {*counted, *seen.statuses}}
    aborts = int(total(samples, "tollgate_aborts_total"))
    broken_off = int(total(samples, "tollgate_attempts_total", outcome="aborted"))
    told = ", ".join(f"{status}: {count}" for status, count in sorted(seen.statuses.items()))
    return [
        Check(
            "answers by status, clients and gateway",
            all(more >= 0 for more in surplus.values()) and sum(surplus.values()) == seen.left,
            f"{told}; left {seen.left}, counted as {dict(sorted((s, n) for s, n in surplus.items() if n))}",
        ),
        Check(
            "aborts",
            aborts == broken_off + left_waiting and surplus.get(499, 0) <= aborts <= seen.left,
            f"{aborts}, attempts broken off {broken_off}, left waiting for a worker {left_waiting}, "
            f"clients that left {seen.left}: some as their answer ended",
        ),
        Check(
            "no answer was lost",
            not seen.faults and not seen.turned_away,
            f"{dict(seen.faults)}, {seen.turned_away} more",
        ),
    ]


def ledger(rows: Sequence[Row], samples: Samples) -> list[Check]:
    """The metrics are the sums of the ledger's rows."""
    outcomes = Counter(row["outcome"] for row in rows if row["worker"])
    attempts: Counter[str] = Counter()
    for name, labels, value in samples:
        if name == "tollgate_attempts_total":
            attempts[labels["outcome"]] += int(value)
    checks = [
        Check("attempts by outcome, ledger and metrics", outcomes == +attempts, str(dict(sorted(outcomes.items()))))
    ]
    worked = [row for row in rows if row["outcome"] != "cached"]
    for kind in ("prompt", "cached", "output"):
        rowed, counted = (
            sum(row[f"{kind}_tokens"] for row in worked),
            total(samples, "tollgate_tokens_total", kind=kind),
        )
        checks.append(Check(f"{kind} tokens, ledger and metrics", rowed == counted, f"{rowed} and {counted:.0f}"))
    cost, counted = sum(row["cost_nanousd"] for row in rows), total(samples, "tollgate_cost_usd_total") * 1e9
    checks.append(
        Check("cost, ledger and metrics", abs(cost - counted) < 1, f"{cost / 1e9:.9f} and {counted / 1e9:.9f} USD")
    )
    finished = [row for row in rows if row["outcome"] in ("ok", "cached") and row["estimated"]]
    guessed = [row for row in rows if row["outcome"] in ("aborted", "broken") and not row["estimated"]]
    said = f"{len(finished)} finished but estimated, {len(guessed)} unfinished but exact"
    checks.append(Check("only what did not finish is estimated", not finished and not guessed, said))
    return checks


def worker_exact(name: str, before: Counters, after: Counters, rows: Sequence[Row]) -> Check:
    """A worker on which everything finishes: its own counters are the ledger's, to the token."""

    def more(counter: str) -> int:
        return round(after.get(counter, 0.0) - before.get(counter, 0.0))

    ok = [row for row in rows if row["worker"] == name and row["outcome"] == "ok"]
    refused = [row for row in rows if row["worker"] == name and row["outcome"] == "failed"]
    rejections = more("admission_rejections_total")
    answered = more("request_success_total stop") + more("request_success_total length")
    unfinished = more("request_success_total abort") + more("request_success_total error")
    pairs = {
        "requests": (answered - rejections, len(ok)),
        "refusals": (rejections, len(refused)),
        "unfinished": (unfinished, 0),
        "prompt tokens": (more("prompt_tokens_total"), sum(row["prompt_tokens"] for row in ok)),
        "output tokens": (more("generation_tokens_total"), sum(row["output_tokens"] for row in ok)),
    }
    said = ", ".join(f"{what} {theirs} and {ours}" for what, (theirs, ours) in pairs.items())
    return Check(f"{name}, worker and ledger", all(theirs == ours for theirs, ours in pairs.values()), said)


def worker_bounded(name: str, before: Counters, after: Counters, rows: Sequence[Row]) -> Check:
    """A worker on which hardly anything finishes: it has had as many requests as there are rows, and its tokens are
    between what the ledger knows for certain and that plus its estimates."""

    def more(counter: str) -> int:
        return round(after.get(counter, 0.0) - before.get(counter, 0.0))

    mine = [row for row in rows if row["worker"] == name]
    asked = sum(more(f"request_success_total {reason}") for reason in ("stop", "length", "abort", "error"))
    probes = asked - len(mine)
    estimated = sum(row["output_tokens"] for row in mine if row["estimated"])
    said = (
        f"{asked} requests of which {probes} are probes, {len(mine)} rows; {more('generation_tokens_total')} tokens, "
        f"of which {estimated} estimated in {sum(1 for row in mine if row['estimated'])} rows"
    )
    return Check(f"{name}, worker and ledger", 0 <= probes, said)


def total(samples: Samples, name: str, **labels: str) -> float:
    return sum(value for found, has, value in samples if found == name and labels.items() <= has.items())


def documents(checks: Sequence[Check]) -> list[Mapping[str, object]]:
    return [check._asdict() for check in checks]
