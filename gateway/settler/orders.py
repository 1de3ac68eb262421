"""What a settler is told at its start."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from gateway.table import Metering, Table

ENVIRON = "TOLLGATE_SETTLER"  # not an argument: the URLs may hold passwords, and everybody sees arguments


class Orders(NamedTuple):
    """`reservations` are shares of idle time by tenant."""

    ledger: str
    state: str
    metering: Metering
    reservations: Mapping[str, float]

    @classmethod
    def of(cls, table: Table) -> Self:
        settings = table.settings
        reservations = {name: tenant.reservation for name, tenant in table.tenants.items() if tenant.reservation}
        return cls(settings.ledger, settings.state, settings.metering, reservations)

    def environ(self) -> dict[str, str]:
        metering = {name: getattr(self.metering, name) for name in Metering.__slots__}
        return {ENVIRON: json.dumps({**self._asdict(), "metering": {**metering, "journal": str(metering["journal"])}})}

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        written: dict[str, Any] = json.loads(environ[ENVIRON])
        metering: dict[str, Any] = written.pop("metering")
        metering["journal"] = Path(metering["journal"])
        return cls(**written, metering=Metering(**metering))
