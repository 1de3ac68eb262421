"""The command: what it prints and writes, what it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from loadtests.simulate.__main__ import main, simulate
from loadtests.simulate.engine import Engine
from loadtests.simulate.traffic import Mix
from loadtests.simulate.world import Site
from loadtests.trace import read

ROOT = Path(__file__).parents[4]
TRACES = Path(os.environ.get("TOLLGATE_TRACES", ROOT.parent / "shared" / "traces"))
FEW = ["--requests", "120", "--policies", "random", "llm-d"]


def test_it_prints_a_table_and_writes_json_and_a_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    written, drawn = tmp_path / "out.json", tmp_path / "out.png"
    assert main([*FEW, "--seeds", "2", "--tenants", "2", "--json", str(written), "--plot", str(drawn)]) == 0
    out = capsys.readouterr().out
    assert "120 requests" in out
    assert "llm-d" in out
    assert "by tenant" in out
    assert drawn.read_bytes().startswith(b"\x89PNG")
    document: Any = json.loads(written.read_text())
    assert [one["policy"] for one in document["policies"]] == ["random", "llm-d"]
    assert all(len(one["runs"]) == 2 and one["mean"]["outcomes"] == {"done": 120} for one in document["policies"])


def test_the_same_seed_prints_the_same_json(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = [*FEW, "--gateways", "2", "--load", "both", "--share", "0.1", "--format", "json", "--seed", "3"]
    outs: list[str] = []
    for _ in range(2):
        assert main(wanted) == 0
        outs.append(capsys.readouterr().out)
    assert outs[0] == outs[1]
    assert json.loads(outs[0])["site"]["gateways"] == 2


def test_it_reads_a_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "t.jsonl"
    rows = [{"timestamp": 1000 * n, "input_length": 1024, "output_length": 2, "hash_ids": [0, 1]} for n in range(5)]
    trace.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main([str(trace), "--policies", "llm-d", "--no-decode", "--format", "json"]) == 0
    [one] = json.loads(capsys.readouterr().out)["policies"]
    assert one["mean"]["prefix_hit"] == pytest.approx(4 * 1023 / (5 * 1024))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--policies", "best"], "invalid choice"),
        (["--workers", "0"], "--workers must be above 0"),
        (["--share", "-1"], "--share must be 0 or more"),
        (["--dies", "9@5"], "there is no worker 9"),
        (["--dies", "soon"], "`soon` is not WORKER@SECONDS"),
        (["--slower", "1"], "`1` is not WORKER=FACTOR"),
        (["--slower", "1=0"], "needs a factor above 0"),
        (["--workers", "1", "--dies", "0@5"], "one worker has to stay"),
        (["nowhere.jsonl"], "nowhere.jsonl"),
        (["--json", "/nonexistent/x"], "--json: /nonexistent/x cannot be written"),
        (["--json", "/"], "--json: / cannot be written"),
        (["--plot", "x.bmp"], "--plot: x.bmp must end in .png, .svg, .pdf"),
        (["--policies", "random", "--beside", "llm-d"], "--beside: llm-d is not among --policies"),
        (["--beside", "best"], "invalid choice"),
    ],
)
def test_wrong_usage_is_said(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_losing_every_request_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FEW, "--blocks", "1"]) == 1
    assert "every request was lost by: random, llm-d" in capsys.readouterr().err


# Mooncake's conversations on 8 workers of 5,500 tokens a second and 1,600 blocks, answers left out: mean and 90th
# percentile of the seconds to the first token, as an independent program found them, over three seeds.
PUBLISHED = {
    "least-pending": (3.54, 7.95),
    "sglang": (2.71, 6.63),
    "llm-d": (2.65, 6.48),
    "dynamo": (2.36, 5.42),
    "seconds": (2.32, 5.27),
    "seconds-weighted": (2.23, 5.10),
}


def test_known_figures_are_found_again() -> None:
    path = TRACES / "mooncake_conversation.jsonl"
    if not path.exists():
        pytest.skip(f"{path.name} is not in {TRACES} (TOLLGATE_TRACES names another place)")
    site = Site(engine=Engine(decode=False))
    for one in simulate(read(path), site, Mix(), list(PUBLISHED), range(1)):
        assert (one.all.ttft_mean, one.all.ttft_p90) == pytest.approx(PUBLISHED[one.policy], rel=0.04), one.policy
