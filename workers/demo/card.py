"""The model cards: what a checkpoint is, computed from the run that made it."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from workers.demo.examination import Examination
from workers.demo.recipe import BATCH_TOKENS, SEED, Recipe

MODEL_CARD = """\
# {name}

A Llama of {millions:.2f} million parameters for the Tollgate demo: small enough to start in seconds on a CPU, real
enough to be quantized, adapted and measured. It answers questions about the Python standard library in one sentence
and completes Python code. It is a demonstration, not an assistant: what it says is often wrong.

Trained from seed {seed} on {trained:.1f} million tokens of the Python {python} standard library (its source, and
questions made from its docstrings), which is under the PSF licence. Rebuild: `tollgate-worker demo-models --rebuild`.

| on {held_out_tokens:,} held-out tokens | perplexity |
|---|---|
| {name} | {perplexity:.2f} |
| unigram model | {unigram_perplexity:.2f} |

Bits per byte: {bits_per_byte:.3f}. Numbers in full: `model-card.json`.
"""

ADAPTER_CARD = """\
# scribe:{name}

A LoRA adapter of rank {rank} on `scribe`, trained from seed {seed} on requests made by `workers/demo/{name}_task.py`.
Try it with: {example}
"""


def write_model_card(
    directory: Path, recipe: Recipe, parameters: int, examination: Examination, libraries: Mapping[str, str]
) -> None:
    """`model-card.json` for programs, `README.md` for people; `libraries` are the versions it was made with."""
    facts = {
        "name": recipe.name,
        "parameters": parameters,
        "seed": SEED,
        "training_tokens": recipe.steps * BATCH_TOKENS,
        "recipe": asdict(recipe),
        "examination": examination.as_json(),
        "python": platform.python_version(),
        "libraries": dict(libraries),
    }
    (directory / "model-card.json").write_text(json.dumps(facts, indent=2) + "\n")
    (directory / "README.md").write_text(
        MODEL_CARD.format(
            name=recipe.name,
            millions=parameters / 1e6,
            seed=SEED,
            trained=recipe.steps * BATCH_TOKENS / 1e6,
            python=platform.python_version(),
            **asdict(examination),
        )
    )


def write_adapter_card(directory: Path, name: str, example: str, rank: int) -> None:
    (directory / "README.md").write_text(ADAPTER_CARD.format(name=name, rank=rank, seed=SEED, example=example))
