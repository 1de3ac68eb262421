"""What a settler is told at its start."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Self

from gateway.table import Metering, Price, Table

NOTHING: Mapping[str, Any] = {}


class Orders(NamedTuple):
    """`reservations` are shares of idle time by tenant; `prices` what tokens cost on those workers whose counters may
    correct them, and `gpus` on what each worker runs."""

    ledger: str
    state: str
    metering: Metering
    reservations: Mapping[str, float] = NOTHING
    prices: Mapping[str, Price] = NOTHING
    gpus: Mapping[str, str] = NOTHING

    @classmethod
    def of(cls, table: Table) -> Self:
        settings, workers = table.settings, table.workers.values()
        return cls(
            settings.ledger,
            settings.state,
            settings.metering,
            {name: tenant.reservation for name, tenant in table.tenants.items() if tenant.reservation},
            {one.name: one.price for one in workers if one.price is not None and one.engine != "openai"},
            {one.name: one.gpu.name for one in workers if one.gpu is not None},
        )

    def revised(self, by: Orders) -> Orders:
        """With what a reload of the configuration may change; where the ledger is takes a restart of the gateway."""
        return self._replace(reservations=by.reservations, prices=by.prices, gpus=by.gpus)

    def line(self) -> bytes:
        """One line of JSON. Not for the eyes of everybody: URLs may hold passwords."""
        metering = {**asdict(self.metering), "journal": str(self.metering.journal)}
        prices = {worker: asdict(price) for worker, price in self.prices.items()}
        return json.dumps({**self._asdict(), "metering": metering, "prices": prices}).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> Self:
        written: dict[str, Any] = json.loads(line)
        metering: dict[str, Any] = written.pop("metering")
        metering["journal"] = Path(metering["journal"])
        prices = {worker: Price(**price) for worker, price in written.pop("prices").items()}
        return cls(**written, metering=Metering(**metering), prices=prices)
