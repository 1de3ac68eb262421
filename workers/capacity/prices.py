"""What an hour of a GPU costs: what the command line says, else the fleet's `gpus:`, else the table's."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway import config
from workers.capacity.gpus import TABLE, Gpu, find, of_memory, plain
from workers.errors import WrongUsage

DEFAULT = Path("router_config")
NANO = 1e-9


@dataclass(frozen=True, slots=True)
class FleetGpus:
    """Prices by plain name, and the GPUs of which the table knows nothing but the fleet says the memory."""

    hourly_usd: Mapping[str, float] = field(default_factory=dict[str, float])
    others: Mapping[str, Gpu] = field(default_factory=dict[str, Gpu])


def fleet_gpus(directory: Path | None) -> FleetGpus:
    """Of a configuration directory; of the usual one, where it is there and valid, when none is named."""
    if directory is None and not DEFAULT.is_dir():
        return FleetGpus()
    try:
        gpus = config.load(directory or DEFAULT).gpus
    except config.ConfigError as error:
        if directory is not None:
            raise WrongUsage(str(error)) from None
        print(f"prices are not the fleet's: {DEFAULT} is not valid, see `tollgate check`", file=sys.stderr)
        return FleetGpus()
    known = {plain(name) for name in TABLE}
    return FleetGpus(
        {plain(gpu.name): gpu.hourly * NANO for gpu in gpus.values()},
        {
            gpu.name: of_memory(gpu.memory_bytes, gpu.name)
            for gpu in gpus.values()
            if gpu.memory_bytes is not None and plain(gpu.name) not in known
        },
    )


def with_prices(gpus: Sequence[Gpu], fleet: Mapping[str, float], written: Sequence[str]) -> Sequence[Gpu]:
    """`written` are NAME=USD, or USD alone for all. Raises WrongUsage."""
    prices = dict(fleet)
    for one in written:
        name, equals, amount = one.rpartition("=")
        usd = _amount(amount, one)
        if not equals:
            prices |= {plain(gpu.name): usd for gpu in gpus}
            continue
        asked = plain(find(name, {gpu.name: gpu for gpu in gpus}).name)
        if asked not in {plain(gpu.name) for gpu in gpus}:
            raise WrongUsage(f"--price {one}: {name} is not among the GPUs that are planned with")
        prices[asked] = usd
    return [dataclasses.replace(gpu, hourly_usd=prices.get(plain(gpu.name), gpu.hourly_usd)) for gpu in gpus]


def _amount(text: str, written: str) -> float:
    try:
        usd = float(text.strip().removeprefix("$"))
    except ValueError:
        usd = math.nan
    if not 0 <= usd <= 1e6:
        raise WrongUsage(f"--price {written}: write what an hour costs in USD, for example l40s=1.10")
    return usd
