"""What a config.json's `quantization_config` says that a checkpoint already is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from workers.capacity.quantizations import MIXED
from workers.errors import WrongUsage


@dataclass(frozen=True, slots=True)
class Stored:
    """`bits` are of the weights that are packed several to a word."""

    name: str
    bits: int
    group: int | None = None
    kv_cache_bits: int = 16


NOT_QUANTIZED = Stored("none", 16)


def stored_quantization(written: object, where: str) -> Stored:
    """As models.yaml names it where it has a name for it, else as the checkpoint does. Raises WrongUsage."""
    if written is None:
        return NOT_QUANTIZED
    if not isinstance(written, Mapping):
        raise WrongUsage(f"{where}: `quantization_config` must be a mapping")
    config = cast("Mapping[str, Any]", written)
    method = str(config.get("quant_method", "unknown"))
    if method == "compressed-tensors":
        return _compressed_tensors(config, where)
    if method in ("gptq", "awq", "gptq_marlin", "awq_marlin"):
        bits = _number(config.get("bits", config.get("w_bit")), 4)
        group = _number(config.get("group_size", config.get("q_group_size")), 0)
        return Stored("w4a16" if bits == 4 else f"w{bits}a16", bits, group if group > 0 else None)
    if method == "bitsandbytes":
        four = bool(config.get("load_in_4bit") or config.get("_load_in_4bit"))
        return Stored("nf4" if four else "int8", 4 if four else 8)
    if method in ("fp8", "fbgemm_fp8"):
        return Stored("fp8", 8)
    return Stored(method, _number(config.get("bits"), 4))


def _compressed_tensors(config: Mapping[str, Any], where: str) -> Stored:
    schemes = {_scheme(_mapping(group)) for group in _mapping(config.get("config_groups")).values()}
    if not schemes:
        raise WrongUsage(f"{where}: `quantization_config` has no `config_groups`")
    packed = min(schemes, key=lambda scheme: scheme[1])
    name = packed[0] if len({scheme[0] for scheme in schemes}) == 1 else MIXED
    cache_bits = _mapping(config.get("kv_cache_scheme")).get("num_bits")
    return Stored(name, packed[1], packed[2], 8 if cache_bits == 8 else 16)


def _scheme(group: Mapping[str, Any]) -> tuple[str, int, int | None]:
    """Name, bits and group size of one of the groups."""
    weights = _mapping(group.get("weights"))
    bits, size = _number(weights.get("num_bits"), 16), _number(weights.get("group_size"), 0)
    activation_bits = _number(_mapping(group.get("input_activations")).get("num_bits"), 16)
    name = "fp8" if weights.get("type") == "float" and bits == 8 else f"w{bits}a{activation_bits}"
    return name, bits, size if size > 0 else None


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _number(value: object, default: int) -> int:
    """Bits or a group's size; a checkpoint may have -1 for a whole row."""
    return value if type(value) is int and -1 <= value <= 65536 else default
