"""A model from its directory: the shape from config.json, the weights from the headers of its safetensors files."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from stat import S_ISREG
from typing import Any, cast

from workers.capacity.architecture import Model, Role, Weights
from workers.capacity.configuration import from_config
from workers.capacity.quantizations import BY_NAME, MIXED
from workers.capacity.stored import Stored, stored_quantization
from workers.errors import WrongUsage
from workers.weight_files import Tensor, read_header

INDEX = "model.safetensors.index.json"
LARGEST_JSON = 50_000_000  # bytes; an index of a large model has some

_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|tok_embeddings|embed_in|wpe)\.weight$")
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out)\.weight$|^output\.weight$")
_KEPT = re.compile(r"norm|(^|\.)ln_|router|\.gate\.|vision|visual|projector|rotary", re.IGNORECASE)
_LAYER = re.compile(r"(?:model\.|language_model\.)*layers\.([0-9]{1,6})\.")
_PART = re.compile(r"\.(weight_packed|qweight|weight)$")
_KV = re.compile(r"\.(k_proj|v_proj)\.")
_WHOLE = re.compile(r"\.(q_a_proj|kv_a_proj_with_mqa)\.")
_INPUT_SPLIT = re.compile(r"\.(o_proj|down_proj|w2|c_proj|dense_4h_to_h|fc2|out_proj)\.")
_CHANNEL_SCALE = re.compile(r"\.(weight_scale|weight_scale_inv|scales)$")


def read_model(path: Path) -> Model:
    """The model of a checkpoint directory, or of a config.json alone. Raises WrongUsage."""
    if path.is_dir():
        if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
            raise WrongUsage(f"{path} is a LoRA adapter; plan the model that it adapts")
        file, directory = path / "config.json", path
    else:
        file, directory = path, None
    config = _json(file)
    where = str(file)
    model = from_config(config, (path if directory else path.parent).resolve().name or str(path), where)
    inner = config.get("quantization_config")
    if inner is None and isinstance(config.get("text_config"), Mapping):
        inner = cast("Mapping[str, Any]", config["text_config"]).get("quantization_config")
    stored = stored_quantization(inner, where)
    files = _weight_files(directory) if directory else []
    if files:
        tensors = [tensor for one in files for tensor in read_header(one)]
        return dataclasses.replace(model, weights=weights_of(tensors, model, stored, where))
    if model.stored and model.stored not in BY_NAME:
        because = "its bits differ by layer" if model.stored == MIXED else f"{model.stored} is not known here"
        raise WrongUsage(f"{where}: the size of its weights is not known ({because}); give the directory with them")
    return model


def weights_of(tensors: Iterable[Tensor], model: Model, stored: Stored, where: str) -> tuple[Weights, ...]:
    """By role, with the bytes that the engine will hold where they are quantized. Raises WrongUsage."""
    kv_heads = max(group.kv_heads for group in model.attention)
    tied = not any(weights.role is Role.HEAD for weights in model.weights)
    parameters: defaultdict[Weights, int] = defaultdict(int)
    held: defaultdict[Weights, int] = defaultdict(int)
    for tensor in tensors:
        if not _is_loaded(tensor.name, tied, model.layers):
            continue
        kind = _kind(tensor, kv_heads)
        if kind.role is Role.EMBEDDING and len(tensor.shape) == 2 and tensor.shape[1] != model.hidden_size:
            raise WrongUsage(
                f"{where} says that the hidden size is {model.hidden_size}, but {tensor.name} has rows of"
                f" {tensor.shape[1]}: this is another model's configuration"
            )
        parameters[kind] += _parameters(tensor, stored) if _is_weight(tensor) or not model.stored else 0
        held[kind] += _held(tensor)
    if not sum(parameters.values()):
        raise WrongUsage(f"{where}: the files beside it hold no weights")
    return tuple(
        dataclasses.replace(
            kind, parameters=parameters[kind], stored_bytes=held[kind] if model.stored and kind.is_quantized else None
        )
        for kind in held
    )


def _is_loaded(name: str, tied: bool, layers: int) -> bool:
    """Not: a head that is the embedding, angles that are worked out, layers for multi-token prediction."""
    layer = _LAYER.match(name)
    if layer is not None and int(layer[1]) >= layers:
        return False
    return not (name.endswith("rotary_emb.inv_freq") or (tied and _HEAD.search(name)))


def _kind(tensor: Tensor, kv_heads: int) -> Weights:
    """Which sum a tensor belongs to."""
    name, shape = tensor.name, tensor.shape
    row = max(1, tensor.shape[-1]) if len(tensor.shape) else 1
    if _EMBEDDING.search(name):
        return Weights(Role.EMBEDDING, 0, row)
    if _HEAD.search(name):
        return Weights(Role.HEAD, 0, row)
    is_matrix = len(shape) >= 2 and (_PART.search(name) or _CHANNEL_SCALE.search(name) or ".experts." in name)
    if not is_matrix and not re.search(r"\.(weight_\w+|qzeros|scales|g_idx|absmax|nested_\w+|quant_\w+)", name):
        return Weights(Role.OTHER, 0, max_shards=1)
    if _KEPT.search(name):
        return Weights(Role.OTHER, 0, max_shards=1)
    role = Role.EXPERT if ".experts." in name else Role.LINEAR
    row = row if tensor.dtype not in ("I32", "U8") and _PART.search(name) else 1
    shards = 1 if _WHOLE.search(name) else kv_heads if _KV.search(name) else None
    return Weights(role, 0, row, shards, bool(_INPUT_SPLIT.search(name)))


def _is_weight(tensor: Tensor) -> bool:
    stacked = ".experts." in tensor.name and len(tensor.shape) >= 3 and not tensor.name.endswith(("scales", "bias"))
    return stacked or bool(_PART.search(tensor.name))


def _parameters(tensor: Tensor, stored: Stored) -> int:
    if tensor.dtype == "I32" and 0 < stored.bits < 32:  # several to a word
        return tensor.count * (32 // stored.bits)
    if tensor.dtype == "U8" and stored.bits == 4:
        return tensor.count * 2
    return tensor.count


def _held(tensor: Tensor) -> int:
    """Bytes in the engine: channels' scales at 32 bits, nested block scales unpacked to 32 bits, full floats as 16."""
    if _CHANNEL_SCALE.search(tensor.name) and (len(tensor.shape) < 2 or tensor.shape[1] == 1):
        return 4 * tensor.count
    if tensor.name.endswith(".absmax"):
        return 4 * tensor.count
    if tensor.dtype in ("F32", "F64") and _PART.search(tensor.name):
        return 2 * tensor.count
    return tensor.bytes


def _weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a checkpoint: those that its index lists, or all there are."""
    if (directory / INDEX).is_file():
        mapping = _json(directory / INDEX).get("weight_map")
        if not isinstance(mapping, Mapping) or not mapping:
            raise WrongUsage(f"{directory / INDEX} has no `weight_map`; download it again")
        files = [directory / Path(name).name for name in sorted({str(one) for one in cast("Any", mapping).values()})]
        if missing := [file.name for file in files if not file.is_file()]:
            raise WrongUsage(f"{directory} lacks {', '.join(missing[:3])}, which its index lists; download them again")
        return files
    return sorted(file for file in directory.glob("*.safetensors") if not file.name.startswith("consolidated"))


def _json(path: Path) -> Mapping[str, Any]:
    try:
        status = path.stat()
        if not S_ISREG(status.st_mode) or status.st_size > LARGEST_JSON:
            raise WrongUsage(f"{path} is no file, or larger than {LARGEST_JSON} bytes; is it a configuration?")
        found: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise WrongUsage(
            f"no such file: {path}; name a model directory with a config.json, or a size such as 7B"
        ) from None
    except OSError as error:
        raise WrongUsage(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise WrongUsage(f"{path} is not JSON: {str(error)[:200]}") from None
    if not isinstance(found, dict):
        raise WrongUsage(f"{path} is not a mapping; is it a model's config.json?")
    return cast("dict[str, Any]", found)
