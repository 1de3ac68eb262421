"""The `routing` object of a request body: what its sender prefers, checked strictly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from gateway.errors import BadRequest
from gateway.routing.types import NO_PREFERENCES, Preferences
from gateway.table import PRIORITIES, Objective, Priority

_KEYS: Final = ("optimize", "only", "quantizations", "max_price_usd_per_m", "max_ttft_ms", "priority")
_OBJECTIVES: Final = ("cost", "latency", "quality")


def read_preferences(routing: Mapping[str, Any] | None) -> Preferences:
    """Raises `BadRequest` naming the key that is wrong and what it takes."""
    if not routing:
        return NO_PREFERENCES
    for key in routing:
        if key not in _KEYS:
            key = key[:64]
            raise BadRequest(f"Unknown key `routing.{key}`: use {', '.join(_KEYS)}.", param=f"routing.{key}")
    optimize = _one_of(routing, "optimize", _OBJECTIVES)
    priority = _one_of(routing, "priority", PRIORITIES)
    ttft_ms = _positive(routing, "max_ttft_ms")
    return Preferences(
        optimize=cast("Objective | None", optimize),
        only=_names(routing, "only"),
        quantizations=_names(routing, "quantizations"),
        max_price_usd_per_m=_positive(routing, "max_price_usd_per_m"),
        max_ttft_seconds=None if ttft_ms is None else ttft_ms / 1000,
        priority=cast("Priority | None", priority),
    )


def _one_of(routing: Mapping[str, Any], key: str, choices: tuple[str, ...]) -> str | None:
    value = routing.get(key)
    if value is not None and value not in choices:
        raise BadRequest(f"`routing.{key}` must be one of {', '.join(choices)}.", param=f"routing.{key}")
    return value


def _names(routing: Mapping[str, Any], key: str) -> frozenset[str] | None:
    value = routing.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in cast("list[Any]", value)):
        raise BadRequest(f"`routing.{key}` must be a list of names.", param=f"routing.{key}")
    return frozenset(cast("list[str]", value))


def _positive(routing: Mapping[str, Any], key: str) -> float | None:
    value = routing.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e12:
        raise BadRequest(f"`routing.{key}` must be a positive number.", param=f"routing.{key}")
    return float(value)
