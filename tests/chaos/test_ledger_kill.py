"""kill -9 at boundaries of the ledger, spread over all there are; `make crash` takes every one of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from loadtests.crash.story import expected, story

ROOT = Path(__file__).parents[2]


def test_what_was_safe_is_in_the_ledger_once(tmp_path):
    """On the sources: in what is compiled an interpreter sees no boundaries."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    command = [sys.executable, "-m", "loadtests.crash", "--rounds", "90", "--out", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env={**environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    (result,) = (json.loads(file.read_text()) for file in tmp_path.glob("*.json"))
    assert result["holds"], result["failed"]
    assert done.returncode == 0, done.stdout + done.stderr
    assert result["lost_or_duplicated"] == 0
    assert result["killed"] > 0.9 * result["rounds"] > 80
    boundaries = {(one["act"], one["ground"]): one["count"] for one in result["boundaries"]}
    assert len(boundaries) >= 9
    assert all(count > 100 for count in boundaries.values())


def test_the_referee_knows_what_was_said():
    """Of every beginning of the story: each request is in the books once, as its last word has it."""
    said = story(16, "w")
    for until in range(len(said) + 1):
        found = expected(said[:until])
        entries = [one for one in said[:until] if hasattr(one, "attempt")]
        assert found.rows.keys() == {one.attempt[:3] for one in entries}
        assert len(found.readings) == until - len(entries)
    assert {row[16] for row in found.rows.values()} >= {"ok", "cached", "aborted", "hedged", "broken", "crashed"}
