"""What the engines' files share."""

from __future__ import annotations

import time
from collections.abc import Mapping

import orjson

from loadtests.standin.engine import Answer, Engine

LORA_OF_VLLM = frozenset({"/v1/load_lora_adapter", "/v1/unload_lora_adapter"})
OF_VLLM_ALONE = LORA_OF_VLLM | {"/load", "/ping", "/version", "/v1/messages", "/v1/messages/count_tokens", "/score"}
TEXT = b"text/plain; version=0.0.4; charset=utf-8"


def document(value: object, status: int = 200) -> Answer:
    return Answer(status, orjson.dumps(value))


def page(samples: Mapping[str, float]) -> Answer:
    """A Prometheus page, each name with its labels."""
    lines: list[str] = []
    for name, value in samples.items():
        plain = name.partition("{")[0]
        lines += [f"# HELP {plain} {plain}.", f"# TYPE {plain} gauge", f"{name} {float(value)}"]
    return Answer(200, ("\n".join(lines) + "\n").encode(), TEXT)


def waiting(engine: Engine) -> int:
    return engine.metrics.waiting + engine.metrics.active - engine.running


def cards(names: list[str], owner: str) -> Answer:
    now = int(time.time())
    data = [{"id": name, "object": "model", "created": now, "owned_by": owner} for name in names]
    return document({"object": "list", "data": data})
