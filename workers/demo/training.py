# pyright: basic, reportMissingImports=false
# (torch and transformers live in the quantization environment only)
"""How the demo's models are trained: Muon for the weight matrices, AdamW for embeddings and norms, one linear warm-up
and decay."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from workers.adapters import loop
from workers.adapters.encoding import Document
from workers.demo.chat_format import CONTEXT, VOCABULARY
from workers.demo.progress import Report
from workers.demo.recipe import BATCH_TOKENS, Recipe

THREADS = 2  # a sum over threads depends on their number: fixed, so that a rebuild gives the same weights
WARM_UP = 40
DECAY_SHARE = 0.5


def be_deterministic(seed: int) -> None:
    loop.be_deterministic(seed, THREADS)


def new_model(recipe: Recipe, document_id: int, end_id: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=recipe.hidden,
        num_hidden_layers=recipe.layers,
        intermediate_size=recipe.intermediate,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        head_dim=recipe.head_dim,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=document_id,
        eos_token_id=end_id,
        pad_token_id=document_id,
    )
    return LlamaForCausalLM(config)


def train(
    model: torch.nn.Module, batches: Iterator[list[Document]], steps: int, learning_rate: float, report: Report
) -> None:
    """`steps` updates of `model` in place, computed in bfloat16 with weights kept in float32."""
    matrices = [p for n, p in model.named_parameters() if p.requires_grad and p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.requires_grad and (p.ndim != 2 or "embed" in n)]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.05)]
    if others:
        optimizers.append(torch.optim.AdamW(others, lr=0.3 * learning_rate, betas=(0.9, 0.95), weight_decay=0.0))
    loop.train(model, batches, optimizers, lambda step: _rate(step, steps), steps, report)


def batched(stream: Iterator[Document], length: int) -> Iterator[list[Document]]:
    """Batches of a constant number of tokens."""
    while True:
        yield [next(stream) for _ in range(BATCH_TOKENS // length)]


def perplexity(model: torch.nn.Module, windows: list[list[int]]) -> float:
    """exp of the mean negative log-likelihood of every token but the first of each window."""
    total, count = 0.0, 0
    with torch.inference_mode():
        for window in windows:
            tokens = torch.tensor([window])
            logits = model(tokens).logits[0, :-1].float()
            total += torch.nn.functional.cross_entropy(logits, tokens[0, 1:], reduction="sum").item()
            count += len(window) - 1
    return math.exp(total / count)


def _rate(step: int, steps: int) -> float:
    decay = max(1, int(steps * DECAY_SHARE))
    return min(1.0, (step + 1) / WARM_UP, (steps - step) / decay)
