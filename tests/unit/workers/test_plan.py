from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.workers.capacity.models import SCRIBE, checkpoint, scribe_tensors
from workers.cli import main


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where no fleet has prices


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["plan", *arguments, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_table_with_a_recommendation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "70B", "--requests-per-second", "5", "--ttft", "2s"]) == 0

    out = capsys.readouterr().out
    assert "70B: 70.0B parameters" in out
    assert "Llama-3-70B" in out
    assert "4 × RTX 3090" in out
    assert "$/M tokens" in out
    assert "\nRecommended: 70B" in out
    assert "more, and other splits, with --all" in out


def test_all_shows_every_combination(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "8x7B", "--memory", "48GB", "--all"]) == 0

    out = capsys.readouterr().out
    for split in ("1", "2", "4"):
        assert f"8x7B none on {split + ' × ' if split != '1' else ''}48.0 GB" in out or f"{split} × 48.0 GB" in out
    assert "fits: mixed" in out


def test_several_models_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(capsys, "7B", "13B", "--gpu", "a10", "--tensor-parallel", "1")
    assert {option["model"] for option in found["possible"]} == {"7B", "13B"}
    assert main(["plan", "7B", "13B", "--gpu", "a10"]) == 0
    assert "model" in capsys.readouterr().out


def test_json_has_units_in_its_names(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    directory = checkpoint(tmp_path / "scribe", SCRIBE, scribe_tensors())
    arguments = (str(directory), "--gpu", "cpu", "--kv-cache-memory", "128MiB", "--price", "0.09", "--quantization")
    found = planned(capsys, *arguments, "none")

    (option,) = found["possible"]
    assert option["weights_bytes_per_gpu"] == 9_180_672
    assert option["kv_cache_tokens"] == 52_352
    assert option["kv_cache_blocks"] == 409
    assert option["concurrency_at_context"] == 25
    assert option["max_context"] == 2048
    assert option["hourly_usd"] == 0.09
    assert option["under_load"]["ttft_seconds"] > 0
    assert found["recommended"][0]["option"]["quantization"] == "none"


def test_flags_of_the_engine_are_reckoned_with(capsys: pytest.CaptureFixture[str]) -> None:
    plain = planned(capsys, "7B", "--gpu", "l40s", "--quantization", "w8a8", "--tensor-parallel", "1")
    half = planned(
        capsys, "7B", "--gpu", "l40s", "--quantization", "w8a8", "--tensor-parallel", "1", "--kv-cache-dtype", "fp8"
    )
    less = planned(
        capsys,
        *("7B", "--gpu", "l40s", "--quantization", "w8a8", "--tensor-parallel", "1"),
        *("--memory-utilization", "50%", "--block-size", "32", "--max-num-seqs", "8"),
    )
    tokens = [found["possible"][0]["kv_cache_tokens"] for found in (less, plain, half)]
    assert tokens == sorted(tokens)
    assert less["possible"][0]["at_most"]["batch"] <= 8
    assert less["possible"][0]["kv_cache_block_tokens"] == 32


def test_nothing_that_fits_is_a_problem_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "175B", "--memory", "8GB"]) == 1

    out = capsys.readouterr().out
    assert "What does not fit, and what would:" in out
    assert "Recommended: 175B: nothing: nothing fits" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "neither a model directory nor a size"),
        (["./nothing"], "no such file"),
        (["7B", "--gpu", "h300"], "no data of a GPU"),
        (["7B", "--gpu", "l4,,l40s"], "empty name"),
        (["7B", "--memory", "lots"], "not a size"),
        (["7B", "--tensor-parallel", "two"], "numbers of GPUs"),
        (["7B", "--tensor-parallel", "0"], "numbers of GPUs"),
        (["7B", "--quantization", "int3"], "no quantization"),
        (["7B", "--ttft", "soon"], "not a duration"),
        (["7B", "--price", "l40s=much"], "what an hour costs"),
        (["7B", "--config", "nowhere"], ""),
        (["7B", "--prompt-tokens", "500", "--context", "256"], "do not go into"),
        (["7B", "7B"], "two models"),
        (["7B", "--kv-cache-memory", "0"], "no size"),
    ],
)
def test_wrong_usage_says_what_to_write(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["7B", "--context", "0"],
        ["7B", "--prompt-tokens", "-1"],
        ["7B", "--output-tokens", "1.5"],
        ["7B", "--requests-per-second", "0"],
        ["7B", "--requests-per-second", "nan"],
        ["7B", "--memory-utilization", "0"],
        ["7B", "--memory-utilization", "120%"],
        ["7B", "--bits", "none"],
        ["7B", "--bits", "4"],
        ["7B", "--bits", "nan"],
        ["7B", "--format", "xml"],
        ["7B", "--block-size", "٤"],
    ],
)
def test_wrong_values_of_flags_exit_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["plan", *arguments])
    assert stopped.value.code == 2


def test_a_directory_of_that_name_comes_before_the_size(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    checkpoint(tmp_path / "7B", SCRIBE)
    found = planned(capsys, "7B", "--gpu", "cpu")
    assert found["models"][0]["parameters"] == 4_459_264


def test_prices_are_the_fleets_where_it_has_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "router_config").mkdir()
    written = {"gpus": {"l40s": {"hourly_usd": 0.5}, "mine": {"hourly_usd": 1, "memory_gb": 48}}}
    (tmp_path / "router_config" / "fleet.yaml").write_text(json.dumps(written))
    found = planned(capsys, "7B", "--gpu", "l40s,mine", "--tensor-parallel", "1", "--quantization", "none")
    prices = {option["gpu"]: option.get("hourly_usd") for option in found["possible"]}
    assert prices == {"l40s": 0.5, "mine": None}  # no speed is known, so no cost
