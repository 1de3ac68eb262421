"""Evaluations to judge, with what a test wants changed."""

from __future__ import annotations

from typing import Any

from workers.evaluation.result import (
    Conditions,
    Divergence,
    Evaluation,
    Interval,
    LongContext,
    Memory,
    Perplexity,
    Robustness,
    Running,
    SchemaAdherence,
    Speed,
    Subject,
    Task,
)


def interval(value: float, low: float | None = None, high: float | None = None) -> Interval:
    return Interval(value=value, low=value if low is None else low, high=value if high is None else high)


def divergence(kld: Interval | float = 0.001, same: Interval | float = 0.98) -> Divergence:
    return Divergence(
        tokens=4096,
        top_k=32,
        mean_kld=kld if isinstance(kld, Interval) else interval(kld),
        p99_kld=0.1,
        max_kld=0.5,
        same_top=same if isinstance(same, Interval) else interval(same),
    )


def task(lost: int = 0, gained: int = 0, examples: int = 400, p_value: float = 1.0, **fields: Any) -> Task:
    loss = 100 * (lost - gained) / examples if examples else 0.0
    return Task(
        **{
            "name": "sql",
            "examples": examples,
            "reference_correct": examples // 2,
            "candidate_correct": examples // 2 - lost + gained,
            "lost": lost,
            "gained": gained,
            "p_value": p_value,
            "loss_points": interval(loss, loss - 0.5, loss + 0.5),
        }
        | fields
    )


def subject(name: str = "tiny@int8", weight_bytes: int = 500, digest: str = "sha256:1") -> Subject:
    return Subject(
        name=name,
        artifact=f"models/{name}",
        digest=digest,
        recipe="w8a8",
        quantization="w8a8",
        weight_bytes=weight_bytes,
        bits_per_weight=8.1,
    )


def conditions(**fields: Any) -> Conditions:
    return Conditions(
        **{
            "at": "2026-01-01T00:00:00+00:00",
            "tollgate": "0.1.0",
            "engine": "vllm 0.32.0",
            "device": "CPU",
            "libraries": {},
            "seed": 1,
            "texts": {"windows": "a", "text": "t"},
        }
        | fields
    )


def running(speed: float = 100.0, ttft: float = 50.0, **memory: int) -> Running:
    held = {"weight_bytes": 500, "kv_tokens": 1000, "peak_bytes": 10_000} | memory
    return Running(
        speed=tuple(
            Speed(
                batch=batch,
                requests_per_second=speed / 10,
                output_tokens_per_second=speed * batch,
                ttft_p50_ms=ttft,
                ttft_p95_ms=2 * ttft,
                inter_token_p50_ms=5.0,
            )
            for batch in (1, 4)
        ),
        memory=Memory(**held),
    )


def evaluation(**fields: Any) -> Evaluation:
    """One that passes every gate of eight bits."""
    return Evaluation(
        **{
            "candidate": subject(),
            "reference": subject("tiny", 1000, "sha256:0"),
            "conditions": conditions(),
            "floor": divergence(0.0001, 0.999),
            "divergence": divergence(),
            "perplexity": Perplexity(tokens=4096, reference=10.0, candidate=10.1, ratio=interval(1.01, 1.005, 1.015)),
            "tasks": (task(),),
            "long_context": (
                LongContext(context=2047, tokens=256, perplexity_ratio=1.01, mean_kld=0.002, same_top=0.98),
            ),
            "robustness": (Robustness(name="emoji", ok=True, detail="answered"),),
            "schemas": (SchemaAdherence(mode="guided", asked=20, reference_valid=20, candidate_valid=20),),
            "candidate_running": running(),
            "reference_running": running(),
        }
        | fields
    )
