from __future__ import annotations

import pytest

from workers.capacity.gpus import TABLE, find, of_memory
from workers.capacity.units import GB, GIB
from workers.errors import WrongUsage


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("L40S", "l40s"),
        ("a100", "a100-80"),
        ("A100 40GB", "a100-40"),
        ("a100-80gb", "a100-80"),
        ("rtx-4090", "rtx4090"),
        ("RTX 6000 Ada", "rtx6000ada"),
        ("6000 ada", "rtx6000ada"),
        ("H100 SXM", "h100"),
        ("3090", "rtx3090"),
    ],
)
def test_names_as_people_write_them(written: str, name: str) -> None:
    assert find(written).name == name


@pytest.mark.parametrize("written", ["", "h300", "gpu", "100"])
def test_an_unknown_gpu_is_refused_with_the_known_ones(written: str) -> None:
    with pytest.raises(WrongUsage, match="l40s"):
        find(written)


@pytest.mark.parametrize(
    ("gpu", "quantization", "runs"),
    [
        ("l40s", "fp8", True),
        ("b200", "w8a8", False),
        ("mi300x", "w8a8", False),
        ("mi300x", "nf4", False),
        ("cpu", "w8a8", True),
        ("cpu", "nf4", False),
    ],
)
def test_what_vllm_runs_where(gpu: str, quantization: str, runs: bool) -> None:
    assert (quantization in TABLE[gpu].quantizations) is runs


def test_what_kernels_compute_in() -> None:
    h100, a100 = TABLE["h100"], TABLE["a100-80"]
    assert h100.operations("fp8") == pytest.approx(2 * h100.operations("none"), rel=0.01)
    assert a100.operations("fp8") == a100.operations("none")  # weights only
    assert a100.operations("w8a8") == 2 * a100.operations("none")
    assert h100.operations("w4a16") == h100.operations("none")


def test_the_table_is_whole() -> None:
    for gpu in TABLE.values():
        assert gpu.is_known
        assert gpu.hourly_usd
        assert 16 * GIB < gpu.memory_bytes < 256 * GIB
        assert 50 * GB < (gpu.bytes_per_second or 0) < 10_000 * GB


def test_of_memory_alone_no_speed_is_known() -> None:
    assert not of_memory(48 * GB, "48 GB").is_known
