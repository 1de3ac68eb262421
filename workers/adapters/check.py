"""Whether engines can serve an adapter on a base, and whether it then does what it was trained for.

What vLLM refuses is from its `lora/peft_helper.py`, `lora/lora_model.py` and `lora/worker_manager.py` (0.32).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from gateway.fleet.adapter_check import WEIGHTS, NotAnAdapter, examine
from workers.adapters.base import Base, Linear
from workers.adapters.manifest import BadManifest, Manifest, read_manifest
from workers.adapters.peft_config import CONFIG
from workers.adapters.tensors import has_not_finite, is_zero, tensors_of
from workers.engines.vllm import LORA_RANKS
from workers.errors import WrongUsage
from workers.weight_files import FLOATS, Tensor

Level = Literal["error", "warning"]
DEFAULT_RANK = 16  # what vLLM makes room for where it is not told
SERVED_DTYPES = ("F32", "F16", "BF16")
PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")  # they change nothing but where training began
PREFIX = "base_model.model."
TOKENIZER = "tokenizer.json"
MOST_NAMED = 3

# Each changes what the adapter means; vLLM does not implement it and refuses.
UNSUPPORTED = {
    "use_dora": "DoRA",
    "lora_bias": "a bias of the LoRA layers (`lora_bias`)",
    "alora_invocation_tokens": "activated LoRA (`alora_invocation_tokens`)",
    "layer_replication": "`layer_replication`",
    "use_bdlora": "block-diagonal LoRA (`use_bdlora`)",
    "use_qalora": "QALoRA",
    "modules_to_save": "layers trained whole (`modules_to_save`)",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """An `error` makes an engine refuse or misbehave; of a `warning` somebody should know."""

    level: Level
    what: str
    message: str


@dataclass(frozen=True, slots=True)
class Lora:
    """The two matrices of one adapted layer."""

    a: Tensor | None = None
    b: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Room:
    """What one worker takes: the largest rank it was started for, None where that is not known."""

    worker: str
    max_rank: int | None


def check(directory: Path, base: Base, base_digest: str | None, rooms: tuple[Room, ...] = ()) -> list[Finding]:
    """Everything that is wrong, errors first. `base_digest` is that of the unquantized files it is to serve on,
    None where nobody knows them."""
    try:
        examine(str(directory.resolve()))
        config = _config(directory)
        tensors = tensors_of(directory / WEIGHTS)
        manifest = read_manifest(directory)
    except (NotAnAdapter, BadManifest, WrongUsage) as error:
        return [Finding("error", "files", str(error))]
    found = [
        *_features(config),
        *_ranks(config, rooms),
        *_layers(config, tensors, base),
        *_numbers(tensors),
        *_lineage(manifest, base, base_digest),
        *_tokenizer(directory, base),
    ]
    return sorted(found, key=lambda finding: finding.level)


def rank_of(config: Mapping[str, Any]) -> int:
    """The largest of an adapter, which decides where it fits."""
    return max(cast("int", config["r"]), *cast("dict[str, int]", config.get("rank_pattern") or {}).values(), 1)


def _config(directory: Path) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads((directory / CONFIG).read_text()))


def _features(config: Mapping[str, Any]) -> Iterator[Finding]:
    for key, what in UNSUPPORTED.items():
        if config.get(key):
            yield Finding("error", "features", f"{CONFIG}: vLLM does not take {what}; train without it")
    if config.get("bias", "none") != "none":
        yield Finding("error", "features", f"{CONFIG}: vLLM takes no biases; train with `bias: none`")
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in PLAIN_INITS:
        message = (
            f"{CONFIG}: `init_lora_weights: {ascii(init)[1:-1][:40]}` changed the base's weights; convert the adapter "
            "with PEFT's `path_initial_model_for_weight_conversion`"
        )
        yield Finding("error", "features", message)
    if config.get("trainable_token_indices"):
        yield Finding("error", "features", f"{CONFIG}: vLLM takes no trained tokens; train without them")


def _ranks(config: Mapping[str, Any], rooms: tuple[Room, ...]) -> Iterator[Finding]:
    rank = rank_of(config)
    allocated = next((one for one in LORA_RANKS if one >= rank), None)
    if allocated is None:
        yield Finding("error", "rank", f"rank {rank}: vLLM takes {LORA_RANKS[-1]} at most; train with a smaller one")
        return
    if allocated != rank:
        yield Finding("warning", "rank", f"rank {rank}: vLLM makes room for {allocated}, which costs as much memory")
    for room in rooms:
        if room.max_rank is not None and rank > room.max_rank:
            message = (
                f"rank {rank}: worker {room.worker} takes {room.max_rank} at most; start it with --max-lora-rank "
                f"{allocated}, or train with a smaller rank"
            )
            yield Finding("error", "rank", message)
        if room.max_rank is None and rank > DEFAULT_RANK:
            message = (
                f"rank {rank}: worker {room.worker} is not started here; it has to be with --max-lora-rank {allocated}"
            )
            yield Finding("warning", "rank", message)


def _layers(config: Mapping[str, Any], tensors: Mapping[str, Tensor], base: Base) -> Iterator[Finding]:
    loras, others = grouped(tensors)
    if others:
        message = f"{WEIGHTS} has {_named(others)}: engines take the matrices of LoRA layers and nothing else"
        yield Finding("error", "layers", f"{message}; train without embeddings, new tokens and whole layers")
    if base.opaque:
        message = f"{base.directory.name} keeps its weights in a layout whose shapes are not known here; check with the"
        yield Finding("warning", "layers", f"{message} unquantized checkpoint as --base")
        return
    fused = [name for name in loras if name.removesuffix(".base_layer").endswith(".experts")]
    if fused:
        yield Finding("warning", "layers", f"{_named(fused)}: the shapes of experts kept in one are not checked here")
    missing = sorted(loras.keys() - base.linears.keys() - set(fused))
    if missing:
        yield Finding("error", "layers", f"the base has no linear layer {_named(missing)}: it is an adapter of another")
    misfits = [
        f"{name}: {problem}"
        for name in sorted(loras.keys() & base.linears.keys())
        if (problem := _misfit(loras[name], _turned(base.linears[name], config), _rank_at(name, config)))
    ]
    if misfits:
        more = f" (and {len(misfits) - 1} more layers like it)" if len(misfits) > 1 else ""
        yield Finding("error", "layers", misfits[0] + more)
    unused = _without_weights(config, loras)
    if unused:
        yield Finding("warning", "layers", f"{CONFIG} names {_named(unused)}, of which {WEIGHTS} has nothing")


def grouped(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Lora], list[str]]:
    """The pairs of matrices by the name of their layer in the base, and the names of all other tensors."""
    loras: dict[str, Lora] = {}
    others: list[str] = []
    for name, tensor in sorted(tensors.items()):
        match = re.fullmatch(r"(?:base_model\.model\.)?(.+)\.lora_([AB])\.weight", name)
        if match is None:
            others.append(name)
            continue
        layer, side = match.groups()
        pair = loras.get(layer, Lora())
        loras[layer] = Lora(tensor, pair.b) if side == "A" else Lora(pair.a, tensor)
    return loras, others


def _turned(linear: Linear, config: Mapping[str, Any]) -> Linear:
    """Some checkpoints (GPT-2's) keep their weights the other way round, which the adapter then says."""
    return Linear(linear.inputs, linear.outputs) if config.get("fan_in_fan_out") else linear


def _misfit(pair: Lora, linear: Linear, rank: int) -> str | None:
    if pair.a is None or pair.b is None:
        return "only one of its two matrices is there; save the adapter again"
    if pair.a.shape != (rank, linear.inputs):
        return (
            f"lora_A is {_by(pair.a)}, rank {rank} on this base is {rank}×{linear.inputs}; it is an adapter of another"
        )
    if pair.b.shape != (linear.outputs, rank):
        return (
            f"lora_B is {_by(pair.b)}, rank {rank} on this base is {linear.outputs}×{rank}; it is an adapter of another"
        )
    return None


def _rank_at(name: str, config: Mapping[str, Any]) -> int:
    """As PEFT and vLLM find it: the first pattern that is the end of the layer's name."""
    for pattern, rank in cast("dict[str, int]", config.get("rank_pattern") or {}).items():
        try:
            if re.match(rf"(.*\.)?({pattern})$", name):
                return rank
        except re.error:
            continue
    return config["r"]


def _without_weights(config: Mapping[str, Any], loras: Mapping[str, Lora]) -> list[str]:
    targets: object = config.get("target_modules")
    if not isinstance(targets, list):
        return []
    names = cast("list[str]", targets)
    return sorted(one for one in names if not any(name == one or name.endswith(f".{one}") for name in loras))


def _numbers(tensors: Mapping[str, Tensor]) -> Iterator[Finding]:
    strange = sorted({tensor.dtype for tensor in tensors.values()} - set(SERVED_DTYPES))
    if strange:
        message = f"weights of type {', '.join(strange)}; engines take {', '.join(SERVED_DTYPES)}"
        yield Finding("error", "numbers", f"{message}: save them as BF16")
    broken = sorted(name for name, tensor in tensors.items() if has_not_finite(tensor))
    if broken:
        message = f"{_named(broken)} has numbers that are infinite or none (NaN): every answer would be noise"
        yield Finding("error", "numbers", f"{message}; train again with a lower learning rate")
    if any(tensor.dtype == "F32" for tensor in tensors.values()):
        yield Finding("warning", "numbers", "weights of 32 bits; engines round them to the base's 16, save them so")
    seconds = [tensor for name, tensor in tensors.items() if ".lora_B." in name and tensor.dtype in FLOATS]
    if seconds and all(is_zero(tensor) for tensor in seconds):
        yield Finding("error", "numbers", "every lora_B is zero: the adapter changes nothing, it was never trained")


def _lineage(manifest: Manifest | None, base: Base, base_digest: str | None) -> Iterator[Finding]:
    if manifest is None:
        yield Finding("warning", "base", "there is no manifest.json: on which base it was trained cannot be told")
    elif base_digest is None:
        message = f"{base.directory.name} is quantized and does not say from what (no manifest.json of this version)"
        yield Finding("warning", "base", f"{message}: whether that is {manifest.base} cannot be told")
    elif manifest.base_digest != base_digest:
        message = (
            f"it was trained on {manifest.base} ({manifest.base_digest[:19]}…), and {base.directory.name} is or comes "
            f"from {base_digest[:19]}…; train it again, or serve it on its own base"
        )
        yield Finding("error", "base", message)
    elif manifest.losses.held_out_after >= manifest.losses.held_out_before:
        losses = f"{manifest.losses.held_out_before:.4f} before and {manifest.losses.held_out_after:.4f} after training"
        yield Finding("warning", "training", f"it has learnt nothing: held-out loss {losses}")


def _tokenizer(directory: Path, base: Base) -> Iterator[Finding]:
    """Engines use the base's; what an adapter brings along is not read, which matters where it is another."""
    if (directory / "added_tokens.json").is_file() and not (base.directory / "added_tokens.json").is_file():
        yield Finding("error", "tokenizer", "it adds tokens; engines use the base's tokenizer, which has none of them")
        return
    mine, theirs = _vocabulary(directory / TOKENIZER), _vocabulary(base.directory / TOKENIZER)
    if mine is not None and theirs is not None and mine != theirs:
        more = len(mine.items() - theirs.items())
        message = f"its {TOKENIZER} has {more} tokens that the base's has not or has under other numbers; engines use"
        yield Finding("error", "tokenizer", f"{message} the base's")


def _vocabulary(path: Path) -> dict[str, int] | None:
    """Tokens and their numbers, the added ones too; None where they cannot be read."""
    try:
        found: Any = json.loads(path.read_text())
        vocabulary: Any = found["model"]["vocab"]
        added = {one["content"]: one["id"] for one in found.get("added_tokens") or ()}
        if isinstance(vocabulary, list):  # unigram models list (token, score), numbered by their place
            vocabulary = {one[0]: number for number, one in enumerate(cast("list[Any]", vocabulary))}
        return {**cast("dict[str, int]", vocabulary), **added}
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _by(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape))


def _named(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(ascii(name)[1:-1][:80] for name in names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
