"""GPUs: what their data sheets and drivers say, what vLLM runs on them, and what an hour costs.

Memory is what the driver reports (nvidia-smi, rocm-smi), with ECC where it is on by default. Bandwidth and dense tensor
throughput (the sheets' larger figures are with sparsity) are from the vendors' data sheets: NVIDIA A100, H100, H200,
L4, L40S, A10, HGX B200, RTX 6000 Ada; the architecture papers of Ampere GA102 and Ada AD102 for RTX 3090 and 4090, with
32-bit accumulation; AMD Instinct MI300X. The CPU is a server's with 16 cores, AVX-512, AMX and four channels of
DDR5-4800, two thirds of it usable: an assumption, since no sheet says what a machine's is.

What runs is from vLLM's table of quantization and hardware (docs.vllm.ai, features/quantization): FP8 below compute
capability 8.9 is of weights only (Marlin), INT8 is not supported from 10.0 on, nor on AMD, bitsandbytes on NVIDIA only;
on x86 it has kernels for INT8, INT4 and, in vLLM 0.32, FP8. `mixed` has layers of INT8.

Prices are about the middle of public on-demand lists of specialised clouds in 2026. Yours differ: `--price`, or `gpus:`
of the fleet.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from workers.capacity.units import GIB
from workers.errors import WrongUsage

MIB = 2**20
PCIE_4, PCIE_5 = 32e9, 64e9  # bytes per second, one way, 16 lanes


@dataclass(frozen=True, slots=True)
class Gpu:
    """One accelerator. Throughputs are dense operations per second by data type; None where nothing is known."""

    name: str
    title: str
    memory_bytes: int
    bytes_per_second: float | None = None
    operations_per_second: Mapping[str, float] = dataclasses.field(default_factory=dict[str, float])  # bf16, fp8, int8
    link_bytes_per_second: float = PCIE_4  # between GPUs of one machine, one way
    hourly_usd: float | None = None
    quantizations: frozenset[str] = frozenset(("none", "fp8", "w8a8", "mixed", "w4a16", "nf4"))
    is_cpu: bool = False
    most: int = 8  # that one machine has

    @property
    def is_known(self) -> bool:
        """Whether its speed can be estimated."""
        return self.bytes_per_second is not None and "bf16" in self.operations_per_second

    def operations(self, quantization: str) -> float:
        """Per second, in what the kernels of a quantization compute in: 16 bits unless both operands are narrower."""
        kind = {"fp8": "fp8", "w8a8": "int8"}.get(quantization, "bf16")
        return self.operations_per_second.get(kind, self.operations_per_second["bf16"])


def _nvidia(
    name: str,
    title: str,
    *,
    mib: int,
    gb_per_second: float,
    tera: tuple[float, float | None, float | None],
    link: float = PCIE_4,
    usd: float,
    most: int = 8,
) -> Gpu:
    bf16, fp8, int8 = tera
    rates = {"bf16": bf16, "fp8": fp8, "int8": int8}
    every = {"none", "fp8", "w4a16", "nf4"} | ({"w8a8", "mixed"} if int8 else set[str]())
    return Gpu(
        name,
        title,
        mib * MIB,
        gb_per_second * 1e9,
        MappingProxyType({kind: rate * 1e12 for kind, rate in rates.items() if rate}),
        link,
        usd,
        frozenset(every),
        most=most,
    )


TABLE: Mapping[str, Gpu] = MappingProxyType(
    {
        gpu.name: gpu
        for gpu in (
            _nvidia("l4", "L4", mib=23034, gb_per_second=300, tera=(121, 242, 242), usd=0.70),
            _nvidia("a10", "A10", mib=23028, gb_per_second=600, tera=(125, None, 250), usd=0.75),
            _nvidia("rtx3090", "RTX 3090", mib=24576, gb_per_second=936, tera=(71, None, 284), usd=0.25, most=4),
            _nvidia("rtx4090", "RTX 4090", mib=24564, gb_per_second=1008, tera=(165.2, 330.3, 660.6), usd=0.45),
            _nvidia("rtx6000ada", "RTX 6000 Ada", mib=49140, gb_per_second=960, tera=(364.2, 728.5, 728.5), usd=0.80),
            _nvidia("l40s", "L40S", mib=46068, gb_per_second=864, tera=(362, 733, 733), usd=1.10),
            _nvidia(
                "a100-40", "A100 40 GB", mib=40960, gb_per_second=1555, tera=(312, None, 624), link=300e9, usd=1.29
            ),
            _nvidia(
                "a100-80", "A100 80 GB", mib=81920, gb_per_second=2039, tera=(312, None, 624), link=300e9, usd=1.50
            ),
            _nvidia("h100", "H100 SXM", mib=81559, gb_per_second=3350, tera=(989, 1979, 1979), link=450e9, usd=2.95),
            _nvidia("h200", "H200 SXM", mib=143771, gb_per_second=4800, tera=(989, 1979, 1979), link=450e9, usd=3.80),
            _nvidia("b200", "B200", mib=183359, gb_per_second=8000, tera=(2250, 4500, None), link=900e9, usd=5.50),
            Gpu(
                "mi300x",
                "MI300X",
                196592 * MIB,
                5300e9,
                MappingProxyType({"bf16": 1307e12, "fp8": 2615e12}),
                448e9,
                2.50,
                frozenset(("none", "fp8", "w4a16")),
            ),
            Gpu(
                "cpu",
                "CPU",
                64 * GIB,
                100e9,
                MappingProxyType({"bf16": 10e12, "int8": 20e12}),
                PCIE_5,
                0.80,
                frozenset(("none", "fp8", "w8a8", "mixed", "w4a16")),
                is_cpu=True,
                most=1,
            ),
        )
    }
)

ALIASES = {"a100": "a100-80", "a10040gb": "a100-40", "a10080gb": "a100-80", "4090": "rtx4090", "3090": "rtx3090"}


def find(name: str, others: Mapping[str, Gpu] = MappingProxyType({})) -> Gpu:
    """By name, without regard to case, spaces and dashes: `A100 80GB`, `rtx-4090`. Raises WrongUsage."""
    known = {plain(gpu.name): gpu for gpu in (*TABLE.values(), *others.values())}
    asked = plain(name)
    asked = plain(ALIASES.get(asked, asked))
    for spelled in (asked, asked.removesuffix("gb"), asked.removesuffix("sxm"), f"rtx{asked}"):
        if spelled in known:
            return known[spelled]
    raise WrongUsage(
        f"no data of a GPU `{name}`; there are: {', '.join((*TABLE, *others))}."
        " For another one give its memory: --memory 48GB"
    )


def plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name.lower())


def of_memory(memory_bytes: int, title: str) -> Gpu:
    """A GPU of which nothing but its memory is known: what fits can be said, how fast it is can not."""
    return Gpu(plain(title), title, memory_bytes)
