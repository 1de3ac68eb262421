# pyright: basic, reportMissingImports=false
# (tokenizers lives in the quantization environment only)
"""The demo models' tokenizer: byte-level BPE of 2,048 tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from workers.demo.chat_format import (
    ASSISTANT,
    CHAT_TEMPLATE,
    CONTEXT,
    DOCUMENT,
    END,
    SPECIAL,
    SYSTEM,
    TOOL,
    USER,
    VOCABULARY,
)


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Digits stay single tokens, so that a small model can copy a number it has never seen."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=list(SPECIAL),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{DOCUMENT} $A", pair=f"{DOCUMENT} $A $B", special_tokens=[(DOCUMENT, tokenizer.token_to_id(DOCUMENT))]
    )
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, directory: Path) -> None:
    """The files every Hugging Face loader looks for."""
    tokenizer.save(str(directory / "tokenizer.json"), pretty=False)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        "bos_token": DOCUMENT,
        "eos_token": END,
        "pad_token": DOCUMENT,
        "additional_special_tokens": [SYSTEM, USER, ASSISTANT, TOOL],
        "clean_up_tokenization_spaces": False,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (directory / "chat_template.jinja").write_text(CHAT_TEMPLATE)
