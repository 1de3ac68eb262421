# pyright: basic, reportMissingImports=false
# (torch, transformers and llmcompressor live in the quantization environment only)
"""Quantize one checkpoint. Runs in the quantization environment, started by `tollgate-worker quantize`."""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from workers.directories import replaced
from workers.quantization.calibration import WINDOW, calibration_samples, digest_of_samples
from workers.quantization.manifest import Manifest, digest_of
from workers.quantization.recipes import RECIPES, QuantizationRecipe

LIBRARIES = ("llmcompressor", "compressed-tensors", "torch", "transformers")
TOKENIZER_FILES = ("tokenizer*", "chat_template*", "special_tokens_map.json", "generation_config.json")


def quantize(base: Path, recipe: QuantizationRecipe, out: Path, samples: int, seed: int) -> None:
    torch.manual_seed(seed)
    logging.getLogger("torch.fx").setLevel(logging.ERROR)  # it warns of what llmcompressor does on purpose
    base_sha256 = digest_of(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    calibration: list[list[int]] = []
    if recipe.needs_calibration:
        calibration = _calibration(AutoTokenizer.from_pretrained(base), samples, seed)
        oneshot(
            model=model,
            recipe=GPTQModifier(targets="Linear", scheme=recipe.scheme, ignore=["lm_head"]),
            dataset=DataLoader([torch.tensor(sample) for sample in calibration], collate_fn=_collate),
            num_calibration_samples=len(calibration),
            max_seq_length=WINDOW,
        )
    else:
        oneshot(model=model, recipe=QuantizationModifier(targets="Linear", scheme=recipe.scheme, ignore=["lm_head"]))
    manifest = Manifest(
        recipe=recipe.name,
        scheme=recipe.scheme,
        base=base.name,
        base_sha256=base_sha256,
        seed=seed,
        samples=samples,
        calibration_sha256=digest_of_samples(calibration) if calibration else None,
        libraries={library: version(library) for library in LIBRARIES},
    )
    with replaced(out) as directory:
        model.save_pretrained(directory, save_compressed=True)
        # The tokenizer is the base's own, byte for byte: saving it anew would rewrite it in the library's dialect.
        for pattern in TOKENIZER_FILES:
            for path in base.glob(pattern):
                shutil.copy2(path, directory)
        manifest.write(directory)


def _calibration(tokenizer: PreTrainedTokenizerBase, samples: int, seed: int) -> list[list[int]]:
    def tokenize(text: str) -> list[int]:
        return tokenizer(text)["input_ids"]

    def render_chat(messages: list[dict[str, str]]) -> list[int]:
        if tokenizer.chat_template is None:
            return tokenize("\n".join(message["content"] for message in messages))
        return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"]

    return calibration_samples(samples, seed, tokenize, render_chat)


def _collate(batch: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    tokens = torch.stack(batch)
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("--recipe", required=True, choices=list(RECIPES))
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--samples", required=True, type=int)
    parser.add_argument("--seed", required=True, type=int)
    arguments = parser.parse_args()
    quantize(arguments.base, RECIPES[arguments.recipe], arguments.out, arguments.samples, arguments.seed)
    print(f"{arguments.out} written ({arguments.recipe})", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
