"""What a settler is told at its start."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self

from gateway.table import Metering, Table

_METERING = tuple(field.name for field in fields(Metering))
ENVIRON = "TOLLGATE_SETTLER"  # not an argument: the URLs may hold passwords, and everybody sees arguments


class Orders(NamedTuple):
    """`reservations` are shares of idle time by tenant, `prices` what tokens cost by worker: nano-USD a million of
    prompt, cached prompt and output."""

    ledger: str
    state: str
    metering: Metering
    reservations: Mapping[str, float]
    prices: Mapping[str, tuple[int, int, int]] = MappingProxyType({})

    @classmethod
    def of(cls, table: Table) -> Self:
        settings = table.settings
        reservations = {name: tenant.reservation for name, tenant in table.tenants.items() if tenant.reservation}
        prices = {
            worker.name: (worker.price.input, worker.price.cached_input, worker.price.output)
            for worker in table.workers.values()
            if worker.price is not None and worker.engine != "openai"  # those have no counters to be corrected by
        }
        return cls(settings.ledger, settings.state, settings.metering, reservations, prices)

    def environ(self) -> dict[str, str]:
        metering = {name: getattr(self.metering, name) for name in _METERING}
        metering["journal"] = str(metering["journal"])
        return {ENVIRON: json.dumps({**self._asdict(), "metering": metering, "prices": dict(self.prices)})}

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        written: dict[str, Any] = json.loads(environ[ENVIRON])
        metering: dict[str, Any] = written.pop("metering")
        metering["journal"] = Path(metering["journal"])
        written["prices"] = {worker: tuple(price) for worker, price in written["prices"].items()}
        return cls(**written, metering=Metering(**metering))
