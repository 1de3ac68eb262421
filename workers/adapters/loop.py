# pyright: basic, reportMissingImports=false
# (torch lives in the quantization environment only)
"""The training loop: batches of examples through a causal language model, computed in bfloat16, clipped, scheduled."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch

from workers.adapters.batches import padded
from workers.adapters.encoding import IGNORED, Document
from workers.demo.progress import Report
from workers.errors import WorkerToolError

LARGEST_GRADIENT = 1.0

Rate = Callable[[int], float]  # of a step from 0 on, the share of the learning rate


class Diverged(WorkerToolError):
    """The loss is no number any more."""


def be_deterministic(seed: int, threads: int, *, strictly: bool = True) -> None:
    """A sum over threads depends on their number: with that fixed, too, the same training gives the same weights. What
    cannot be computed so is an error, or where not `strictly` is computed as it can be: a GPU has no such kernels for
    some operations."""
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=not strictly)


def train(
    model: torch.nn.Module,
    batches: Iterator[list[Document]],
    optimizers: Sequence[torch.optim.Optimizer],
    rate: Rate,
    steps: int,
    report: Report,
) -> None:
    """`steps` updates of `model` in place. Raises Diverged."""
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, rate) for optimizer in optimizers]
    device = next(model.parameters()).device
    model.train()
    for step in range(steps):
        tokens, labels = (torch.tensor(one, device=device) for one in padded(next(batches)))
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = model(tokens, labels=labels).loss
        if not math.isfinite(value := loss.item()):
            raise Diverged(f"the loss is {value} after {step} steps; lower --learning-rate, or look at the examples")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_GRADIENT)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        report(step + 1, steps, value)
    model.eval()


def mean_loss(model: torch.nn.Module, documents: Sequence[Document], batch_size: int) -> float:
    """Negative log-likelihood in nats, mean over the learnt tokens of all documents."""
    device = next(model.parameters()).device
    ordered = sorted(documents, key=lambda document: len(document.tokens))
    total, count = 0.0, 0
    with torch.inference_mode():
        for at in range(0, len(ordered), batch_size):
            tokens, labels = (torch.tensor(one, device=device) for one in padded(ordered[at : at + batch_size]))
            logits = model(tokens).logits[:, :-1].float()
            expected = labels[:, 1:]
            total += torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), expected.flatten(), ignore_index=IGNORED, reduction="sum"
            ).item()
            count += int((expected != IGNORED).sum())
    return total / count
