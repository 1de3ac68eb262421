"""What a checkpoint directory is, from its own files: how many bits its weights have, made by which recipe."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from workers.errors import WrongUsage
from workers.evaluation.result import Layer, Subject
from workers.quantization.manifest import MANIFEST
from workers.quantization.weights import read_header
from workers.reading import content
from workers.registry.digest import digest_of_artifact

UNQUANTIZED_BITS = 16.0
BITS_BY_METHOD = {"fp8": 8.0, "fbgemm_fp8": 8.0, "awq": 4.0, "gptq": 4.0}  # where a configuration names no number
# What belongs to quantized weights without being one: scales, zero points, shapes, the order of columns.
BESIDE_WEIGHTS = ("_scale", "_scale_inv", "_zero_point", "weight_shape", "g_idx", "qzeros", "scales")
PACKED = ("weight_packed", "qweight")  # several weights in each 32-bit number


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A directory that an engine can load. `bits` are the fewest that any weight has: those decide how it is judged."""

    directory: Path
    subject: Subject
    bits: float
    context: int
    parameters: int
    layers: tuple[Layer, ...] = ()  # as its recipe measured them


def examine(directory: Path, name: str | None = None, parameters: int | None = None) -> Checkpoint:
    """Reads the configuration, the manifest and every byte (for the digest). `parameters` are the reference's, which
    count better than packed weights do. Raises WrongUsage where it is no checkpoint."""
    config = _json(directory / "config.json")
    manifest = _manifest(directory)
    recipe: Any = manifest.get("recipe")
    quantization = _mapping(config, "quantization_config", directory)
    bits = UNQUANTIZED_BITS if quantization is None else bits_of(quantization)
    weight_bytes, counted = weights_of(directory, bits)
    if not counted:
        raise WrongUsage(f"{directory} has no weights (*.safetensors)")
    return Checkpoint(
        directory=directory,
        subject=Subject(
            name=name or directory.resolve().name,
            artifact=str(directory),
            digest=digest_of_artifact(directory),
            recipe=str(recipe) if recipe else None,
            quantization=str(manifest.get("quantization") or quantization_of(quantization, recipe)),
            weight_bytes=weight_bytes,
            bits_per_weight=8 * weight_bytes / (parameters or counted),
        ),
        bits=bits,
        context=_context(config, directory),
        layers=layers_of(manifest),
        parameters=parameters or counted,
    )


def adapted(base: Subject, adapter: Path, name: str | None) -> Subject:
    """An adapter on a checkpoint: the adapter is what is judged and registered. Raises WrongUsage."""
    _json(adapter / "adapter_config.json")
    weight_bytes, _ = weights_of(adapter, UNQUANTIZED_BITS)
    return base.model_copy(
        update={
            "name": name or f"{base.name}:{adapter.resolve().name}",
            "artifact": str(adapter),
            "digest": digest_of_artifact(adapter),
            "recipe": "lora",
            "weight_bytes": base.weight_bytes + weight_bytes,
        }
    )


def bits_of(quantization: Mapping[str, Any]) -> float:
    """The fewest bits of any weight, of a `quantization_config`: compressed-tensors', bitsandbytes', GPTQ's, AWQ's."""
    found = [float(one["num_bits"]) for one in _weights(quantization) if one.get("num_bits")]
    if found:
        return min(found)
    if quantization.get("load_in_4bit"):
        return 4.0
    if quantization.get("load_in_8bit"):
        return 8.0
    for key in ("bits", "w_bit"):
        if quantization.get(key):
            return float(quantization[key])
    return BITS_BY_METHOD.get(str(quantization.get("quant_method")), UNQUANTIZED_BITS)


def quantization_of(quantization: Mapping[str, Any] | None, recipe: object) -> str:
    """As models.yaml has it: none, fp8, w8a8, w4a16, nf4, mixed."""
    if quantization is None:
        return "none"
    if str(recipe) in ("mixed", "nf4"):
        return str(recipe)
    if quantization.get("load_in_4bit"):
        return "nf4"
    kinds = {(str(one.get("type")), one.get("num_bits")) for one in _weights(quantization)}
    if len(kinds) > 1:
        return "mixed"
    if ("float", 8) in kinds:
        return "fp8"
    inputs = [group.get("input_activations") for group in _groups(quantization)]
    activations = cast("Mapping[str, Any]", inputs[0]).get("num_bits", 16) if inputs and inputs[0] else 16
    if not kinds and str(quantization.get("quant_method")) == "fp8":
        return "fp8"
    return f"w{bits_of(quantization):g}a{activations}"


def layers_of(manifest: Mapping[str, Any]) -> tuple[Layer, ...]:
    """What the manifest tells of each layer, where its recipe measured them."""
    told = cast("Sequence[Mapping[str, Any]]", manifest.get("layers") or ())
    try:
        fewest = min((one["bits"] for one in told), default=0)
        return tuple(
            Layer(name=str(one["name"]), mean_kld=float(one["mean_kld"]), kept=one["bits"] > fewest) for one in told
        )
    except (LookupError, TypeError, ValueError):
        return ()  # another tool's manifest


def _manifest(directory: Path) -> Mapping[str, Any]:
    return _json(directory / MANIFEST) if (directory / MANIFEST).is_file() else {}


def _groups(quantization: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """compressed-tensors': layers that are quantized alike."""
    groups: Any = quantization.get("config_groups")
    return list(cast("Mapping[str, Mapping[str, Any]]", groups or {}).values())


def _weights(quantization: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [cast("Mapping[str, Any]", group.get("weights") or {}) for group in _groups(quantization)]


def weights_of(directory: Path, bits: float) -> tuple[int, int]:
    """Bytes of all tensors, and how many parameters they hold."""
    size = parameters = 0
    for name, dtype, count, length in _tensors(directory):
        size += length
        if name.endswith(BESIDE_WEIGHTS):
            continue
        packed = name.endswith(PACKED) or (dtype == "U8" and bits < 8)
        parameters += round(8 * length / bits) if packed else count
    return size, parameters


def _tensors(directory: Path) -> Iterator[tuple[str, str, int, int]]:
    """Name, type, number of elements and bytes of every tensor, from the headers. Raises WrongUsage."""
    for path in sorted(directory.glob("*.safetensors")):
        for tensor in read_header(path):
            yield tensor.name, tensor.dtype, tensor.count, tensor.end - tensor.start


def _context(config: Mapping[str, Any], directory: Path) -> int:
    inner = _mapping(config, "text_config", directory) or config
    for key in ("max_position_embeddings", "n_positions", "max_sequence_length"):
        if isinstance(inner.get(key), int):
            return inner[key]
    raise WrongUsage(f"{directory}/config.json does not say how long the context is; say it with --context")


def _mapping(config: Mapping[str, Any], key: str, directory: Path) -> Mapping[str, Any] | None:
    found: object = config.get(key)
    if found is not None and not isinstance(found, dict):
        raise WrongUsage(f"{directory}/config.json: `{key}` is not an object; copy or make the checkpoint again")
    return cast("dict[str, Any] | None", found)


def _json(path: Path) -> Mapping[str, Any]:
    try:
        found: Any = json.loads(content(path))
    except FileNotFoundError:
        raise WrongUsage(
            f"{path.parent} is none: it has no {path.name}; checkpoints are made by `tollgate-worker quantize` and"
            " `demo-models`, adapters by `adapter train`; what runs already is given by --candidate-url"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise WrongUsage(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(found, dict):
        raise WrongUsage(f"{path} is not a JSON object")
    return cast("dict[str, Any]", found)
