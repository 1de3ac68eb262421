"""A price list beside the bill: what the same tokens would have come to at so much a million."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.ledger.record import Line
from gateway.table import Price

MILLION = 1_000_000


class Showback:
    """Prices by what they are for: `model`, `model@version`, `model:adapter` or `model@version:adapter`. The most
    particular one counts, and an adapter's is more so than a version's."""

    def __init__(self, prices: Mapping[str, Price]) -> None:
        self._prices = prices
        self._found: dict[tuple[str, str, str], Price | None] = {}
        self.unpriced: set[str] = set()  # models that have been asked for and have none

    def of(self, line: Line, prompt: int, cached: int, output: int) -> int:
        """In millionths of a nano-USD, and without a bound anywhere, so that the price of a sum is the sum of the
        prices. Answers from the gateway's own cache cost nothing."""
        if line.cost_basis == "none" or not line.model:
            return 0
        price = self._price(line)
        if price is None:
            if prompt or output:
                self.unpriced.add(line.model)
            return 0
        return (prompt - cached) * price.input + cached * price.cached_input + output * price.output

    def _price(self, line: Line) -> Price | None:
        key = line.model, line.version, line.adapter
        if key not in self._found:
            names = [f"{line.model}@{line.version}", line.model]
            if line.adapter:
                names = [f"{names[0]}:{line.adapter}", f"{line.model}:{line.adapter}", *names]
            self._found[key] = next((self._prices[name] for name in names if name in self._prices), None)
        return self._found[key]
