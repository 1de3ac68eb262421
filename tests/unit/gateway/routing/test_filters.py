"""Why a worker may not take a request: one test for each reason, and none for a worker that may."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.routing import filters, scorers
from gateway.routing.types import Drop, Preferences, WorkerView
from gateway.table import Price, SubjectTo
from tests.unit.gateway.routing.tables import ask, model, version, view

CHAT = model("chat", version("a", "fp8", 0.9), adapters=["sql"])
EMBED = model("chat", version("a"), task="embed")


@pytest.mark.parametrize(
    ("state", "adapter", "reason"),
    [
        ({}, None, None),
        ({"up": False}, None, "down"),
        ({"up": False, "draining": True}, None, "down"),
        ({"draining": True}, None, "draining"),
        ({}, "sql", "adapter_missing"),
        ({"adapters": {"sql": "sql-v1"}}, "sql", None),
        ({"adapters": {"law": "law"}}, "sql", "adapter_missing"),
    ],
)
def test_the_state_of_a_worker(state: dict[str, Any], adapter: str | None, reason: Drop | None) -> None:
    assert filters.cannot(view(**state), ask(), CHAT, adapter) == reason


@pytest.mark.parametrize(
    ("task", "model_task", "reason"),
    [
        ("generate", "generate", None),
        ("embed", "generate", "task"),
        ("generate", "embed", "task"),
        ("embed", "embed", None),
        ("any", "generate", None),
        ("any", "embed", None),
    ],
)
def test_the_task_of_a_model(task: str, model_task: str, reason: Drop | None) -> None:
    assert filters.cannot(view(), ask(task=task), CHAT if model_task == "generate" else EMBED, None) == reason


@pytest.mark.parametrize(("tokens", "reason"), [(1000, None), (4000, None), (4001, "context_length")])
def test_only_a_prompt_that_cannot_fit_by_any_count_is_refused(tokens: int, reason: Drop | None) -> None:
    assert filters.cannot(view(), ask(prompt_tokens=tokens), CHAT, None) == reason


SLOW = view()  # its first token comes after one second
HOSTED = view(price=Price(10_000_000_000, 0, 40_000_000_000))  # 100 at 10 and 50 at 40 USD per million: 20 on average


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        (SubjectTo(), None),
        (SubjectTo(min_quality=0.9), None),
        (SubjectTo(min_quality=0.91), "quality"),
        (SubjectTo(ttft_p95=1.0), None),
        (SubjectTo(ttft_p95=0.99), "ttft"),
        (SubjectTo(ttft_p95=0.5, min_quality=1.0), "quality"),
    ],
)
def test_the_terms_of_a_route(terms: SubjectTo, reason: Drop | None) -> None:
    assert filters.misses(SLOW, CHAT, terms, 1.0) == reason


@pytest.mark.parametrize(
    ("wishes", "reason"),
    [
        (Preferences(), None),
        (Preferences(only=frozenset({"w", "x"})), None),
        (Preferences(only=frozenset({"chat"})), None),
        (Preferences(only=frozenset({"chat@a"})), None),
        (Preferences(only=frozenset({"chat@b", "other"})), "not_in_only"),
        (Preferences(quantizations=frozenset({"fp8", "int4"})), None),
        (Preferences(quantizations=frozenset({"int4"})), "quantization"),
        (Preferences(max_ttft_seconds=1.0), None),
        (Preferences(max_ttft_seconds=0.9), "ttft"),
    ],
)
def test_the_wishes_of_a_request(wishes: Preferences, reason: Drop | None) -> None:
    assert filters.unwanted(SLOW, ask(preferences=wishes), CHAT, 1.0, 0.0) == reason


@pytest.mark.parametrize(("bound", "reason"), [(20.0, None), (19.9, "price")])
def test_a_price_bound_is_per_million_tokens_of_this_request(bound: float, reason: Drop | None) -> None:
    wishes = Preferences(max_price_usd_per_m=bound)
    assert filters.unwanted(HOSTED, ask(preferences=wishes), CHAT, 1.0, scorers.nanousd(HOSTED, ask())) == reason


def test_a_filter_leaves_the_worker_as_it_was() -> None:
    subject: WorkerView = view()
    before = repr(subject)
    filters.cannot(subject, ask(), CHAT, None)
    filters.unwanted(subject, ask(preferences=Preferences(max_ttft_seconds=1.0)), CHAT, 2.0, 1.0)
    assert repr(subject) == before
