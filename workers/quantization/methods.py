# pyright: basic, reportMissingImports=false
# (torch, transformers and llmcompressor live in the quantization environment only)
"""What llmcompressor and bitsandbytes do to a loaded model, by recipe; their progress goes where ours does."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from compressed_tensors.offload import dispatch
from compressed_tensors.quantization import preset_name_to_scheme
from compressed_tensors.quantization.lifecycle import apply
from llmcompressor import oneshot
from llmcompressor.modifiers import Modifier
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier
from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier
from llmcompressor.pipelines.cache import IntermediatesCache
from llmcompressor.pipelines.sequential import pipeline as sequential
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from workers.quantization.allocation import Bits
from workers.quantization.progress import Report
from workers.quantization.recipes import SMOOTHING, QuantizationRecipe

KEPT = ["lm_head"]
HIGH, LOW = "W8A8", "W4A16"  # mixed precision's schemes
_STEP = re.compile(r"\((\d+)/(\d+)\): (\w+)")  # how the sequential pipeline names what it does


def compress(model: PreTrainedModel, recipe: QuantizationRecipe, samples: Sequence[Sequence[int]], report: Report):
    """By a recipe that treats all layers alike."""
    _oneshot(model, _modifiers(recipe), samples, report, recipe.name)


def compress_mixed(
    model: PreTrainedModel, bits: Mapping[str, Bits], samples: Sequence[Sequence[int]], report: Report
) -> None:
    """By GPTQ, each module at its own number of bits, by its name."""
    groups = {}
    for name, scheme in ((4, LOW), (8, HIGH)):
        if modules := [module for module, chosen in bits.items() if chosen == name]:
            groups[f"group_{name}"] = preset_name_to_scheme(scheme, modules)
    kept = [module for module, chosen in bits.items() if chosen == 16]
    if groups:
        _oneshot(model, [GPTQModifier(config_groups=groups, ignore=KEPT + kept)], samples, report, "mixed")


def load_nf4(directory: Path) -> PreTrainedModel:
    """bitsandbytes quantizes while it loads."""
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return AutoModelForCausalLM.from_pretrained(
        directory, quantization_config=settings, dtype="auto", device_map={"": device}
    )


def _modifiers(recipe: QuantizationRecipe) -> list[Modifier]:
    quantization = {"targets": "Linear", "scheme": recipe.scheme, "ignore": KEPT}
    match recipe.method:
        case "gptq" if recipe.scheme == HIGH:
            return [SmoothQuantModifier(smoothing_strength=SMOOTHING), GPTQModifier(**quantization)]
        case "gptq":
            return [GPTQModifier(**quantization)]
        case "awq":
            # Scales of the least square error: the largest weight's own are a fifth further off on the demo model.
            return [AWQModifier(duo_scaling="both"), QuantizationModifier(weight_observer="mse", **quantization)]
        case _:
            return [QuantizationModifier(**quantization)]


def _oneshot(
    model: PreTrainedModel, modifiers: list[Modifier], samples: Sequence[Sequence[int]], report: Report, name: str
) -> None:
    logging.getLogger("torch.fx").setLevel(logging.ERROR)  # it warns of what llmcompressor does on purpose
    if not torch.cuda.is_available():
        # AWQ pins what it keeps in memory, which fails on a machine that has nothing to pin it for.
        IntermediatesCache.pin_memory = lambda *_args, **_settings: None
    sequential.tqdm = _Follower(report, name)
    dispatch.tqdm = apply.tqdm = lambda items, **_settings: items  # bars that no setting turns off
    if not samples:
        oneshot(model=model, recipe=modifiers)
        return
    oneshot(
        model=model,
        recipe=modifiers,
        dataset=DataLoader([torch.tensor(sample) for sample in samples], collate_fn=_collate),
        num_calibration_samples=len(samples),
        max_seq_length=len(samples[0]),
    )


class _Follower:
    """Makes what takes the place of tqdm's bars: what they count is reported as a stage over all parts of the model.
    Where two modifiers are calibrated one after the other, the model is gone through twice."""

    def __init__(self, report: Report, name: str) -> None:
        self._report, self._name, self._passes = report, name, 0

    def __call__(self, items: Iterable, total: int = 0, desc: str = "") -> Iterator:
        step = _STEP.match(desc)
        if not step:
            yield from items
            return
        part, parts, calibrating = int(step[1]) - 1, int(step[2]), step[3] == "Calibrating"
        self._passes += part == 0 and calibrating
        stage = self._name if self._passes == 1 else f"{self._name}, pass {self._passes}"
        done = 2 * part + (not calibrating)  # each part is gone through twice
        for number, item in enumerate(items, 1):
            yield item
            self._report(stage, done * total + number, 2 * parts * total)


def _collate(batch: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    tokens = torch.stack(batch)
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
