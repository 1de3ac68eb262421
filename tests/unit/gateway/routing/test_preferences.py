"""The `routing` object: read exactly, or refused with the key that is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest
from gateway.routing.preferences import read_preferences
from gateway.routing.types import NO_PREFERENCES, Preferences


def test_all_of_it() -> None:
    routing = {
        "optimize": "quality",
        "only": ["chat", "big@hosted"],
        "quantizations": ["fp8"],
        "max_price_usd_per_m": 3,
        "max_ttft_ms": 1500,
        "priority": "batch",
    }
    assert read_preferences(routing) == Preferences(
        "quality", frozenset({"chat", "big@hosted"}), frozenset({"fp8"}), 3.0, 1.5, "batch"
    )


@pytest.mark.parametrize("routing", [None, {}, {"optimize": None, "only": None, "max_ttft_ms": None}])
def test_nothing_asked_is_no_preference(routing: dict[str, Any] | None) -> None:
    assert read_preferences(routing) == NO_PREFERENCES


@pytest.mark.parametrize(
    ("routing", "param"),
    [
        ({"optimise": "cost"}, "routing.optimise"),
        ({"k" * 100_000: 1}, "routing." + "k" * 64),
        ({"optimize": "speed"}, "routing.optimize"),
        ({"optimize": ["cost"]}, "routing.optimize"),
        ({"priority": "urgent"}, "routing.priority"),
        ({"priority": {}}, "routing.priority"),
        ({"only": "chat"}, "routing.only"),
        ({"only": []}, "routing.only"),
        ({"only": ["chat", 1]}, "routing.only"),
        ({"quantizations": {}}, "routing.quantizations"),
        ({"max_price_usd_per_m": "1"}, "routing.max_price_usd_per_m"),
        ({"max_price_usd_per_m": True}, "routing.max_price_usd_per_m"),
        ({"max_price_usd_per_m": 0}, "routing.max_price_usd_per_m"),
        ({"max_price_usd_per_m": -1}, "routing.max_price_usd_per_m"),
        ({"max_price_usd_per_m": float("nan")}, "routing.max_price_usd_per_m"),
        ({"max_ttft_ms": 1e12}, "routing.max_ttft_ms"),
        ({"max_ttft_ms": [1]}, "routing.max_ttft_ms"),
    ],
)
def test_a_wrong_value_is_refused_by_its_key(routing: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_preferences(routing)
    assert caught.value.param == param
    assert f"`{param}`" in caught.value.message
    assert len(caught.value.message) < 300


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
keys = st.sampled_from(["optimize", "only", "quantizations", "max_price_usd_per_m", "max_ttft_ms", "priority"])


@given(st.dictionaries(keys | st.text(max_size=5), json_values, max_size=4))
def test_anything_is_read_or_refused(routing: dict[str, Any]) -> None:
    try:
        wishes = read_preferences(routing)
    except BadRequest:
        return
    assert wishes.optimize in (None, "cost", "latency", "quality")
    assert wishes.priority in (None, "interactive", "standard", "batch")
    assert wishes.max_price_usd_per_m is None or wishes.max_price_usd_per_m > 0
    assert wishes.max_ttft_seconds is None or wishes.max_ttft_seconds > 0
    hash(wishes)
