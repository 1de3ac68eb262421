"""What a measurement found, and what several load generators found together."""

from __future__ import annotations

import json
from array import array
from collections import Counter

import pytest

from loadtests.run import Run


def test_what_several_saw_is_one_run() -> None:
    one = Run(2.0, 2, 10, Counter({"status 503": 1}), latencies=array("d", [0.1, 0.2]), cpu_seconds=0.5, rss_after=7)
    two = Run(2.1, 1, 5, Counter({"status 503": 2, "connection lost": 1}), latencies=array("d", [0.9]))
    whole = Run.merged([one, two])
    assert (whole.seconds, whole.requests, whole.events) == (2.1, 3, 15)
    assert whole.errors == {"status 503": 3, "connection lost": 1}
    assert whole.latency.maximum == 0.9
    assert whole.latency.count == 3
    assert (whole.cpu_seconds, whole.rss_after) == (0.5, 7)
    assert whole.error_share == pytest.approx(4 / 7)


def test_a_document_is_json_also_when_nothing_came() -> None:
    document = json.loads(json.dumps(Run(1.0).document(), allow_nan=False))
    assert (document["requests"], document["latency"], document["cpu_seconds"]) == (0, None, None)
    full = json.loads(json.dumps(Run(1.0, 1, latencies=array("d", [0.5])).document(), allow_nan=False))
    assert full["latency"]["intervals"]["p99"] == [0.5, 0.5]
