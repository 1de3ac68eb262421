# pyright: basic, reportMissingImports=false
# (torch, transformers and llmcompressor live in the quantization environment only)
"""How much each layer suffers: the KL divergence of the model's output from its own, with this layer alone quantized.

Weights are rounded to nearest here, symmetrically by groups of 128 at 4 bits and by output channel at 8, with inputs
rounded per token at 8: what GPTQ makes of them later is better, and takes too long to be tried on each layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.nn import Linear, Module
from torch.nn.functional import kl_div, log_softmax

from workers.quantization.allocation import Bits, Measured, fused
from workers.quantization.kept import Kept
from workers.quantization.progress import Report, followed
from workers.quantization.recipes import GROUP

DIGITS = 6  # of a divergence, in the manifest
WINDOWS = 8  # of the calibration's: the reference's output over them is held in memory
ROWS = 128  # positions whose divergence is computed at a time


def measure(model: Module, windows: Sequence[Sequence[int]], kept: Kept, report: Report) -> list[Measured]:
    """Every linear layer but the output head, as the engine fuses them. `kept` has what an earlier run measured."""
    linears = linears_of(model)
    device = next(model.parameters()).device
    texts = [torch.tensor([window], device=device) for window in windows[:WINDOWS]]
    layers = fused(linears)
    cases: list[tuple[str, Bits]] = [(name, bits) for name in layers for bits in (4, 8)]
    missing = [case for case in cases if kept.get(_key(*case)) is None]
    reference = [_log_probabilities(model, text) for text in texts] if missing else []
    for name, bits in followed(missing, report, "sensitivity", len(cases), done=len(cases) - len(missing)):
        with _quantized([linears[module] for module in layers[name]], bits):
            kept.keep(_key(name, bits), _rounded(_divergence(model, texts, reference)))
    return [
        Measured(
            name,
            sum(linears[module].weight.numel() for module in modules),
            {bits: kept.get(_key(name, bits)) or 0.0 for bits in (4, 8)},
        )
        for name, modules in layers.items()
    ]


def linears_of(model: Module) -> dict[str, Linear]:
    """What recipes quantize, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, Linear) and not name.endswith("lm_head")
    }


def fake_quantized(weights: torch.Tensor, bits: Bits) -> torch.Tensor:
    """[outputs, inputs], each number the nearest that its group can say: symmetric, scaled by the largest."""
    outputs, inputs = weights.shape
    groups = weights.float().reshape(outputs, -1, GROUP if bits == 4 else inputs)
    return _nearest(groups, bits).reshape(outputs, inputs).to(weights.dtype)


def _nearest(numbers: torch.Tensor, bits: Bits) -> torch.Tensor:
    scale = numbers.abs().amax(-1, keepdim=True).clamp(min=1e-10) / (2 ** (bits - 1) - 1)
    return (numbers / scale).round() * scale


@contextmanager
def _quantized(modules: Sequence[Linear], bits: Bits) -> Iterator[None]:
    original = [module.weight.data for module in modules]
    hooks = [module.register_forward_pre_hook(_round_inputs) for module in modules] if bits == 8 else []
    try:
        for module in modules:
            module.weight.data = fake_quantized(module.weight.data, bits)
        yield
    finally:
        for module, weights in zip(modules, original, strict=True):
            module.weight.data = weights
        for hook in hooks:
            hook.remove()


def _round_inputs(_: Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return (_nearest(inputs[0].float(), 8).to(inputs[0].dtype), *inputs[1:])


@torch.no_grad()
def _log_probabilities(model: Module, text: torch.Tensor) -> torch.Tensor:
    return log_softmax(model(input_ids=text).logits[0].float(), -1)


def _divergence(model: Module, texts: Sequence[torch.Tensor], reference: Sequence[torch.Tensor]) -> float:
    """Mean over all positions, in nats."""
    total = torch.zeros((), dtype=torch.float64)
    for text, expected in zip(texts, reference, strict=True):
        found = _log_probabilities(model, text)
        for start in range(0, len(found), ROWS):
            rows = slice(start, start + ROWS)
            total += kl_div(found[rows], expected[rows], reduction="sum", log_target=True).double().cpu()
    return total.item() / sum(len(expected) for expected in reference)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _key(name: str, bits: Bits) -> str:
    return f"{name} {bits}"
