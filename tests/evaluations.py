"""Evaluations as real ones look, made by code: a reference of so many bits and versions of it that lose so much."""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import sqrt
from typing import Any

from workers.evaluation.result import (
    Conditions,
    Divergence,
    Evaluation,
    Interval,
    Layer,
    LongContext,
    Memory,
    Perplexity,
    Robustness,
    Running,
    SchemaAdherence,
    Speed,
    Subject,
    Task,
    Verdict,
)

BATCHES = (1, 4, 8, 16)
KINDS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
MLP = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


def evaluation(
    name: str = "scribe@int8",
    *,
    quantization: str = "w8a8",
    bits: float = 8.4,
    kld: float = 0.0021,
    faster: float = 1.4,
    blocks: int = 0,
    kept: Sequence[str] = (),
    seed: int = 7,
    **parts: Any,
) -> Evaluation:
    """A version that is `kld` nats from the reference: what else it loses follows from that. `parts` replaces parts."""
    chance = random.Random(f"{name} {seed}")
    eight = bits > 6
    bounds = {"kld": 0.01, "same": 0.96, "ppl": 1.02} if eight else {"kld": 0.05, "same": 0.91, "ppl": 1.05}
    same, ratio = max(0.02, 1 - 0.4 * sqrt(kld) if kld < 1 else 0.1), 1 + kld * 1.1
    tasks = tuple(_task(one, right, kld, chance) for one, right in (("sql", 412), ("support", 377), ("facts", 268)))
    candidate = subject(name, quantization, bits)
    reference = subject("scribe", "none", 16.0)
    found: dict[str, Any] = {
        "candidate": candidate,
        "reference": reference,
        "conditions": Conditions(
            at="2026-11-21T21:04:05Z",
            tollgate="0.1.0",
            engine="vllm 0.32.0",
            device="Intel Xeon, 2 cores",
            libraries={"torch": "2.13.0+cpu", "llmcompressor": "0.14.0", "transformers": "5.4.1"},
            seed=20260,
            texts={"held-out text": "9f" * 32, "sql": "1c" * 32},
            amount={
                "windows": 128,
                "window_tokens": 384,
                "examples": 500,
                "speed_prompt_tokens": 512,
                "speed_answer_tokens": 128,
                "speed_rounds": 3,
            },
        ),
        "floor": divergence(4e-5, 0.9985),
        "divergence": divergence(kld, same),
        "perplexity": Perplexity(
            tokens=65_536, reference=6.113, candidate=6.113 * ratio, ratio=interval(ratio, (ratio - 1) * 0.2 + 5e-4)
        ),
        "tasks": tasks,
        "long_context": tuple(
            LongContext(
                context=context,
                tokens=4096,
                perplexity_ratio=1 + (ratio - 1) * grown,
                mean_kld=kld * grown,
                same_top=max(0.0, 1 - (1 - same) * grown),
            )
            for context, grown in ((512, 0.9), (1024, 1.0), (2048, 1.2))
        ),
        "robustness": tuple(
            Robustness(name=one, ok=kld < 1 or one == "empty", detail=said)
            for one, said in (
                ("empty", "refused with 400, as by the reference"),
                ("very long", "refused with 400: context length"),
                ("emoji", "an answer of 48 tokens, no repetition"),
                ("noise", "an answer of 48 tokens, no repetition"),
            )
        ),
        "schemas": (
            SchemaAdherence(mode="guided", asked=60, reference_valid=60, candidate_valid=60),
            SchemaAdherence(
                mode="prompted", asked=60, reference_valid=41, candidate_valid=41 - round(min(kld, 1) * 30)
            ),
        ),
        "candidate_running": running(candidate.weight_bytes, faster, chance),
        "reference_running": running(reference.weight_bytes, 1.0, random.Random(1)),
        "layers": layers(blocks, kept, chance),
    }
    found["verdicts"] = (
        verdict("floor", 4e-5, 0.0025, 0.0, "0.0000 nats, 99.85% same top", "≤ 0.0025 nats"),
        verdict("divergence", kld, bounds["kld"], 0.0, f"{kld:.4f} nats", f"≤ {bounds['kld']:.4f} nats"),
        verdict("same-top", same, bounds["same"], 1.0, f"{same:.2%}", f"≥ {bounds['same']:.2%}"),
        verdict("perplexity", ratio, bounds["ppl"], 1.0, f"× {ratio:.4f}", f"≤ × {bounds['ppl']:g}"),
        *(
            verdict(
                f"task {task.name}",
                task.loss_points.value,
                1.0,
                0.0,
                f"{task.loss_points.value:+.2f} points lost",
                "≤ 1 points lost",
            )
            for task in tasks
        ),
        verdict("long-context", kld * 1.2, bounds["kld"] * 1.5, 0.0, f"{kld * 1.2:.4f} nats", "at the end of 2,048"),
        Verdict(
            gate="speed",
            passed=None,
            measured="–",
            bound="≥ 95 % of the baseline",
            reason="there is no baseline; store one with: tollgate-worker evaluate --baseline FILE",
            optional=True,
        ),
    )
    return Evaluation(**(found | parts))


def subject(name: str, quantization: str, bits: float) -> Subject:
    weight_bytes = round(4_532_480 * bits / 8)
    plain = quantization == "none"
    return Subject(
        name=name,
        artifact=f"var/models/{name.replace('@', '-')}",
        digest="sha256:" + random.Random(name).randbytes(32).hex(),
        recipe=None if plain else f"recipe of {name}",
        quantization=quantization,
        weight_bytes=weight_bytes,
        bits_per_weight=bits,
    )


def interval(value: float, half: float) -> Interval:
    return Interval(value=value, low=value - half, high=value + half)


def divergence(kld: float, same: float) -> Divergence:
    low, high = kld * 0.9, kld * 1.12
    return Divergence(
        tokens=65_536,
        top_k=20,
        mean_kld=Interval(value=kld, low=low, high=high),
        p99_kld=kld * 14,
        max_kld=kld * 190,
        same_top=Interval(value=same, low=max(0.0, same - 0.003), high=min(1.0, same + 0.003)),
    )


def running(weight_bytes: int, faster: float, chance: random.Random) -> Running:
    return Running(
        speed=tuple(
            Speed(
                batch=batch,
                requests_per_second=round(2.7 * batch**0.8 * faster * chance.uniform(0.97, 1.03), 2),
                output_tokens_per_second=round(345 * batch**0.8 * faster * chance.uniform(0.97, 1.03), 1),
                ttft_p50_ms=round(11 + 2.1 * batch / faster, 1),
                ttft_p95_ms=round(19 + 3.4 * batch / faster, 1),
                inter_token_p50_ms=round(2.9 * batch**0.2 / faster, 2),
            )
            for batch in BATCHES
        ),
        memory=Memory(weight_bytes=weight_bytes, kv_tokens=262_144, peak_bytes=1_310_000_000 + weight_bytes * 3),
    )


def layers(blocks: int, kept: Sequence[str], chance: random.Random) -> tuple[Layer, ...]:
    names = [f"model.layers.{block}.{kind}" for block in range(blocks) for kind in (*KINDS, *MLP)]
    names += ["lm_head"] if blocks else []
    return tuple(
        Layer(name=one, mean_kld=10 ** chance.uniform(-6, -2.5) * (8 if "down" in one else 1), kept=one in kept)
        for one in names
    )


def verdict(gate: str, value: float, limit: float, ideal: float, measured: str, bound: str) -> Verdict:
    passed = value <= limit if limit >= ideal else value >= limit
    reason = "within the bound" if passed else "more is lost than may be"
    return Verdict(
        gate=gate, passed=passed, measured=measured, bound=bound, reason=reason, value=value, limit=limit, ideal=ideal
    )


def several(count: int) -> list[Evaluation]:
    """Up to eight versions of one model, as a team tries them."""
    made = (
        ("scribe@fp8", "fp8", 8.5, 0.0009, 1.15),
        ("scribe@int8", "w8a8", 8.4, 0.0021, 1.42),
        ("scribe@int4", "w4a16", 5.1, 0.061, 1.31),
        ("scribe@int4-awq", "w4a16", 5.1, 0.034, 1.29),
        ("scribe@nf4", "nf4", 4.9, 0.048, 0.71),
        ("scribe@mixed", "mixed", 6.2, 0.0085, 1.36),
        ("scribe@progressive", "w4a16", 5.4, 0.022, 1.3),
        ("scribe@broken", "w4a16", 4.3, 2.31, 1.33),
    )
    return [
        evaluation(
            name,
            quantization=quantization,
            bits=bits,
            kld=kld,
            faster=faster,
            blocks=8 if quantization == "mixed" else 0,
            kept=("lm_head", "model.layers.0.mlp.down_proj", "model.layers.7.mlp.down_proj"),
        )
        for name, quantization, bits, kld, faster in made[:count]
    ]


def _task(name: str, right: int, kld: float, chance: random.Random) -> Task:
    examples = 500
    changed = min(right, round(examples * min(0.9, sqrt(kld) * 0.35)))
    gained = changed // 3 if kld > 0.02 else round(changed * chance.uniform(0.35, 0.6))
    lost = changed - gained
    loss = (lost - gained) / examples * 100
    half = 196 * sqrt(max(1, changed)) / examples
    return Task(
        name=name,
        examples=examples,
        reference_correct=right,
        candidate_correct=right - lost + gained,
        lost=lost,
        gained=gained,
        p_value=0.5 if loss < 1 else 0.0004,
        loss_points=Interval(value=loss, low=loss - half, high=loss + half),
    )
