# pyright: basic, reportMissingImports=false
# (torch, peft and safetensors live in the quantization environment only)
"""LoRA adapters on `scribe`: the same training loop, with the base frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

from workers.adapters.peft_config import settle
from workers.demo.conversations import Conversation, Turn
from workers.demo.progress import Report
from workers.demo.sql_task import sql_turn
from workers.demo.support_task import support_turn
from workers.demo.training import batched, train
from workers.demo.windows import Document, Encoder, windows

RANK = 16
WINDOW = 256
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class AdapterRecipe:
    name: str
    turn: Callable[[Random], Turn]
    steps: int
    example: str


ADAPTERS = (
    AdapterRecipe("sql", sql_turn, 150, "Show the name and price of all products with a price below 20."),
    AdapterRecipe("support", support_turn, 200, "My order 48213 has not arrived. Please help."),
)


def train_adapter(
    recipe: AdapterRecipe, base: Path, encoder: Encoder, random: Random, out: Path, report: Report
) -> None:
    """Train one adapter on the checkpoint in `base` and save it in PEFT's layout, which vLLM loads."""
    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=list(TARGETS), task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    stream = windows(_examples(recipe, encoder, random), WINDOW)
    train(adapted, batched(stream, WINDOW), recipe.steps, learning_rate=0.01, report=report)
    adapted.to(torch.bfloat16)
    adapted.save_pretrained(out, save_embedding_layers=False)
    settle(out, base.name)


def _examples(recipe: AdapterRecipe, encoder: Encoder, random: Random) -> Iterator[Document]:
    while True:
        yield encoder.conversation(Conversation(None, (recipe.turn(random),)))
