"""`loadtests.limits` for a quarter of a minute: killed processes, a paused Redis, and no limit passed."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from loadtests.limits.__main__ import run

pytestmark = pytest.mark.redis

SHARE = 0.8  # of a limit; the command wants 95 %, on a machine that has nothing else to do


def test_no_limit_is_passed_whoever_is_killed(tmp_path: Path) -> None:
    arguments = Namespace(processes=4, clients=100, calm=3.0, chaos=7.0, ttl=4.0, longest_pause=1.2, pause=0.25, seed=3)
    document, found = run(tmp_path, arguments)
    assert document["kills"]
    assert document["pauses"]
    used = [check for check in found if check.what.endswith("used while all is well")]
    assert len(used) == 3
    assert all(float(check.said.partition("%")[0]) >= 100 * SHARE for check in used[:2]), used
    assert [check for check in found if not check.holds and check not in used] == []
