"""The configuration directory: read with places, checked, compiled to a `gateway.table.Table`, watched for changes.

document   the text of one file      → nodes with lines; YAML's traps are refused here
source     the directory             → plain data, merged, every value placed
draft      plain data                → written models (`written/`), entry by entry
lint       the draft as a whole      → problems
compile    a draft without errors    → Table
load       all of these in one call
watch      the directory over time   → a new Table for every valid change
"""

from gateway.config.load import (
    Outcome,
    check,
    decisions_location,
    examine,
    ledger_location,
    load,
    price_list,
    read_prices,
    server_location,
)
from gateway.config.problems import ConfigError, Problem
from gateway.config.watch import Watcher, WatchState

__all__ = [
    "ConfigError",
    "Outcome",
    "Problem",
    "WatchState",
    "Watcher",
    "check",
    "decisions_location",
    "examine",
    "ledger_location",
    "load",
    "price_list",
    "read_prices",
    "server_location",
]
