"""How far a settler is, for those who work on what is settled."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple


class Progress(NamedTuple):
    """Every attempt of the journals it ever met, `sources`, that began before `through` (Unix seconds) is in the
    ledger."""

    through: float
    sources: Collection[str]
