"""What a machine has, and what of it a version lacks."""

from __future__ import annotations

import pytest

from gateway.table import Requires
from workers.registry import hardware
from workers.registry.hardware import Gpu, Machine, cgroup_bytes, cpu_flags, gpus, memory_bytes, unmet, visible

H200 = Gpu("0", "GPU-11111111-aa", "NVIDIA H200", (9, 0), (580, 65, 6), 140_000_000_000)
T4 = Gpu("1", "GPU-22222222-bb", "Tesla T4", (7, 5), (580, 65, 6), 15_000_000_000)
MACHINE = Machine(frozenset({"avx2", "fma"}), 16_000_000_000, (H200, T4))
EVERYTHING = Requires((8, 9), (580, 65), True, ("avx2",), 8_000_000_000)


def test_what_the_kernel_and_the_driver_say():
    assert cpu_flags("processor : 0\nflags\t\t: fpu avx2 amx_int8\n\nflags\t\t: other\n") == {"fpu", "avx2", "amx_int8"}
    assert cpu_flags("Features\t: fp asimd\n") == {"fp", "asimd"}
    assert cpu_flags("") == frozenset()
    assert memory_bytes("MemTotal:       1024 kB\nMemFree: 1 kB\n") == 2**20
    assert (cgroup_bytes("max\n"), cgroup_bytes("4096\n")) == ([], [4096])
    said = "0, GPU-1, NVIDIA H200, 9.0, 580.65.06, 143771\n1, GPU-2, Odd, [N/A], 580.65.06, [N/A]\nwhat?\n"
    assert gpus(said) == (Gpu("0", "GPU-1", "NVIDIA H200", (9, 0), (580, 65, 6), 143771 * 2**20),)


def test_this_machine_can_be_looked_at():
    machine = hardware.here()
    assert machine.memory_bytes > 0
    assert machine.cpu_flags


def test_a_machine_that_has_everything_lacks_nothing():
    assert unmet(EVERYTHING, MACHINE, gpus=1, environ={}) == []
    assert unmet(EVERYTHING, MACHINE, gpus=0, environ={}) == []
    assert unmet(Requires(), Machine(frozenset(), 0, None), gpus=4, environ={}) == []


@pytest.mark.parametrize(
    ("requires", "gpus", "environ", "message"),
    [
        (Requires(cpu_flags=("avx2", "amx_int8")), 0, {}, "the processor features amx_int8, which /proc/cpuinfo"),
        (Requires(cpu=False), 0, {}, "no CPU kernel takes its format"),
        (Requires(memory_bytes=17 * 10**9), 0, {}, "17 GB for its weights alone, and this machine or container has 16"),
        (Requires(compute_capability=(10, 0)), 1, {}, "10.0 or later, and there is NVIDIA H200 (9.0)"),
        (Requires(compute_capability=(8, 0)), 2, {}, "8.0 or later, and there is Tesla T4 (7.5)"),
        (Requires(compute_capability=(8, 0)), 1, {"CUDA_VISIBLE_DEVICES": "1"}, "there is Tesla T4"),
        (Requires(driver=(590,)), 1, {}, "driver 590 or later, and there is 580.65.6; update the driver"),
        (Requires(memory_bytes=141 * 10**9), 1, {}, "its GPUs have 140 GB"),
        (Requires(memory_bytes=1), 3, {}, "3 GPUs, and there are 2"),
    ],
)
def test_what_is_missing_is_told(requires: Requires, gpus: int, environ: dict[str, str], message: str):
    [missing] = unmet(requires, MACHINE, gpus=gpus, environ=environ)
    assert message in missing


def test_memory_of_several_gpus_counts_together():
    assert unmet(Requires(memory_bytes=150 * 10**9), MACHINE, gpus=2, environ={}) == []


def test_a_gpu_is_wanted_and_no_driver_answers():
    nothing = Machine(frozenset(), 0, None)
    for requires in (Requires(compute_capability=(7, 5)), Requires(driver=(1,)), Requires(memory_bytes=1)):
        [missing] = unmet(requires, nothing, gpus=1, environ={})
        assert "no NVIDIA driver answers" in missing


@pytest.mark.parametrize(
    ("named", "expected"),
    [(None, (H200, T4)), ("1", (T4,)), ("1,0", (T4, H200)), ("GPU-2222", (T4,)), ("MIG-x", (H200, T4)), ("", ())],
)
def test_the_gpus_that_a_worker_sees(named: str | None, expected: tuple[Gpu, ...]):
    environ = {} if named is None else {"CUDA_VISIBLE_DEVICES": named}
    assert visible((H200, T4), environ) == expected
