"""What a settler is told arrives as it was meant."""

from __future__ import annotations

from pathlib import Path

from gateway.settler.orders import Orders
from gateway.table import Metering, Price

ORDERS = Orders(
    "postgresql://tollgate:s%20cret@db/ledger",
    "redis://h:6379/0",
    Metering(journal=Path("var/élan"), window=10.0, idle="by_reservation"),
    {"support": 0.25},
    {"hosted": Price(1, 2, 3)},
    {"w0": "cpu"},
)


def test_orders_are_one_line_that_says_all() -> None:
    line = ORDERS.line()
    assert line.count(b"\n") == 1
    assert Orders.read(line) == ORDERS


def test_orders_without_extras() -> None:
    plain = Orders("sqlite:///ledger.db", "memory://", Metering())
    assert Orders.read(plain.line()) == plain


def test_a_reload_changes_who_pays_and_not_where_things_are() -> None:
    other = Orders("sqlite:///elsewhere.db", "memory://", Metering(), {"support": 0.5}, {}, {"w1": "h100"})
    revised = ORDERS.revised(other)
    assert revised[:3] == ORDERS[:3]
    assert revised[3:] == other[3:]
