from __future__ import annotations

import json
from pathlib import Path

import pytest

from workers.demo.card import write_adapter_card, write_model_card
from workers.demo.examination import Examination
from workers.demo.recipe import BATCH_TOKENS, SCRIBE, SCRIBE_MINI, Recipe

EXAMINATION = Examination(held_out_tokens=164596, perplexity=29.8512, unigram_perplexity=532.83, bits_per_byte=1.524)


def test_a_model_card_says_what_was_measured(tmp_path: Path) -> None:
    write_model_card(tmp_path, SCRIBE, 4_459_264, EXAMINATION, {"torch": "2.13.0"})

    facts = json.loads((tmp_path / "model-card.json").read_text())
    assert facts["examination"] == EXAMINATION.as_json()
    assert facts["parameters"] == 4_459_264
    assert facts["training_tokens"] == SCRIBE.steps * BATCH_TOKENS
    assert facts["libraries"] == {"torch": "2.13.0"}
    text = (tmp_path / "README.md").read_text()
    assert "| scribe | 29.85 |" in text
    assert "4.46 million parameters" in text


def test_an_adapter_card_says_how_to_try_it(tmp_path: Path) -> None:
    write_adapter_card(tmp_path, "sql", "How many customers are there?", rank=16)

    text = (tmp_path / "README.md").read_text()
    assert text.startswith("# scribe:sql\n")
    assert "How many customers are there?" in text


@pytest.mark.parametrize("recipe", [SCRIBE, SCRIBE_MINI], ids=lambda recipe: recipe.name)
def test_every_width_fits_the_quantized_kernels(recipe: Recipe) -> None:
    widths = {recipe.hidden, recipe.intermediate, recipe.heads * recipe.head_dim}

    assert all(width % 128 == 0 for width in widths)
    assert recipe.kv_heads * recipe.head_dim % 64 == 0
