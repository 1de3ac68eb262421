# pyright: basic, reportMissingImports=false
# (torch, transformers and llmcompressor live in the quantization environment only)
"""Weights that are not numbers, found before they are calibrated on: one tensor at a time, in pieces."""

from __future__ import annotations

import mmap
from collections.abc import Sequence

import torch

from workers.errors import WrongUsage
from workers.quantization.progress import Report, followed
from workers.weight_files import FLOATS, Tensor

PIECE = 16 * 2**20  # numbers
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def check_finite(tensors: Sequence[Tensor], report: Report) -> None:
    """Raises WrongUsage at the first tensor that holds a NaN or an infinity."""
    floats = [tensor for tensor in tensors if tensor.dtype in FLOATS and tensor.count]
    for tensor in followed(floats, report, "weights checked", len(floats)):
        with tensor.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as content:
            dtype = DTYPES[tensor.dtype]
            for start in range(0, tensor.count, PIECE):
                count = min(PIECE, tensor.count - start)
                numbers = torch.frombuffer(
                    content, dtype=dtype, count=count, offset=tensor.start + start * dtype.itemsize
                )
                finite = bool(torch.isfinite(numbers).all())
                del numbers  # it holds the mapping open
                if not finite:
                    raise WrongUsage(
                        f"{tensor.path}: {tensor.name} holds NaN or infinite weights; no quantized version of it would"
                        " answer sensibly: train or download the checkpoint again"
                    )
