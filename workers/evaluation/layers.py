"""What a version's manifest says of its layers, as an evaluation has it for its report."""

from __future__ import annotations

from pathlib import Path

from workers.evaluation.result import Layer
from workers.quantization.manifest import BadManifest, read_manifest


def layers_of(artifact: Path) -> tuple[Layer, ...]:
    """Nothing where layers were not measured: only mixed precision does."""
    try:
        manifest = read_manifest(artifact)
    except BadManifest:
        return ()
    return tuple(
        Layer(name=layer.name, mean_kld=layer.mean_kld, kept=layer.bits == 16, bits=layer.bits)
        for layer in manifest.layers
    )
