"""Whether what lies at a path is a LoRA adapter that an engine may be told to load.

Only what the files say of themselves is read (the configuration, the head of the weights), and never anything that
runs when it is read: weights are safetensors. PEFT's layout: `adapter_config.json`, `adapter_model.safetensors`.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Collection, Mapping
from itertools import islice
from typing import cast

import orjson

MOST_FILES = 64
MOST_CONFIG_BYTES = 1024 * 1024
MOST_HEAD_BYTES = 16 * 1024 * 1024
MOST_PATH = 1000
MOST_RANK = 512  # what vLLM can be started with at most
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".npy", ".npz", ".joblib", ".dill")
_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E5M2FNUZ", "F8_E4M3FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}
_Entry = Mapping[str, object]


class NotAnAdapter(Exception):
    """The message says what is wrong and what to do; it begins in the middle of a sentence and ends without a full
    stop."""


def resolve(path: str, directories: Collection[str]) -> str:
    """The directory that `path` leads to, links followed. Raises NotAnAdapter where that is not beneath one of the
    allowed directories, or no directory."""
    if not path or len(path) > MOST_PATH or not path.isprintable():
        raise NotAnAdapter(f"the path must have 1 to {MOST_PATH} printable characters")
    if not path.startswith("/"):
        raise NotAnAdapter("the path must be absolute, as `/srv/adapters/support-v3` is")
    if ".." in path.split("/"):
        raise NotAnAdapter("the path must not have `..` in it: write where it leads to")
    allowed = " or ".join(directories)
    real = os.path.realpath(path)
    if not is_beneath(real, roots(directories)):  # said before anything is said of what is there
        raise NotAnAdapter(f"the path must lead to a directory beneath {allowed}")
    if len(real) > MOST_PATH or not real.isprintable():
        raise NotAnAdapter(f"the path leads to one of more than {MOST_PATH} characters, or with unprintable ones")
    if not os.path.isdir(real):
        raise NotAnAdapter("there is no directory that this gateway can see: put the adapter there first")
    return real


def roots(directories: Collection[str]) -> tuple[str, ...]:
    """The allowed directories without links, as `is_beneath` takes them."""
    return tuple(os.path.realpath(one) for one in directories)


def is_beneath(real: str, tops: Collection[str]) -> bool:
    """Whether a path is beneath one of the directories; all of them are without links, and none need exist."""
    is_plain = real.startswith("/") and os.path.normpath(real) == real
    return is_plain and any(real.startswith(top.rstrip("/") + "/") for top in tops)


def examine(real: str) -> None:
    """Raises NotAnAdapter where the files at a path without links are not those of an adapter."""
    if os.path.realpath(real) != real:
        raise NotAnAdapter("its path has become a symbolic link: add it anew by the path of the directory itself")
    try:
        names = _files(real)
        ranks = _configured(_read(real, CONFIG, 0, MOST_CONFIG_BYTES, whole=True))
        if WEIGHTS not in names:
            raise NotAnAdapter(f"there is no {WEIGHTS}: save the adapter as safetensors")
        for name in sorted(names):
            if name.endswith(".safetensors"):
                _weights(real, name, ranks if name == WEIGHTS else frozenset())
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else str(error)
        raise NotAnAdapter(f"its files cannot be read: {what}") from None


def _files(real: str) -> set[str]:
    """The names of the files right there; what engines do not read is let pass."""
    names: set[str] = set()
    with os.scandir(real) as entries:
        for entry in entries:
            if len(names) >= MOST_FILES:
                raise NotAnAdapter(f"there are more than {MOST_FILES} files: an adapter has a directory of its own")
            shown = _shown(entry.name)
            if entry.name.lower().endswith(PICKLES):
                raise NotAnAdapter(
                    f"{shown} may hold a program (it is a pickle or the like): delete it, and save the weights as "
                    "safetensors"
                )
            if entry.name.endswith((".json", ".safetensors")) and not entry.is_file(follow_symlinks=False):
                raise NotAnAdapter(f"{shown} is no regular file: put the file itself there, not a link")
            names.add(entry.name)
    return names


def _read(real: str, name: str, offset: int, most: int, *, whole: bool = False, follow: bool = False) -> bytes:
    """`most` bytes of a regular file from `offset` on; all of it, refused where that is more, for `whole`."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(os.path.join(real, name), flags)
    except FileNotFoundError:
        raise NotAnAdapter(f"there is no {name}: an adapter is a directory as PEFT saves it") from None
    with open(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise NotAnAdapter(f"{name} is no regular file")
        if whole and about.st_size > most:
            raise NotAnAdapter(f"{name} is larger than {most} bytes")
        file.seek(offset)
        return file.read(most)


def _config(content: bytes) -> _Entry:
    try:
        found: object = orjson.loads(content)
    except ValueError:
        raise NotAnAdapter(f"{CONFIG} is not JSON") from None
    if not isinstance(found, dict):
        raise NotAnAdapter(f"{CONFIG} is not a JSON object")
    return cast("_Entry", found)


def _configured(content: bytes) -> frozenset[int]:
    """The ranks that the configuration states."""
    config = _config(content)
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise NotAnAdapter(f"{CONFIG}: `peft_type` must be LORA, not {_shown(kind)}")
    pattern: object = config.get("rank_pattern") or {}
    if not isinstance(pattern, dict):
        raise NotAnAdapter(f"{CONFIG}: `rank_pattern` must be an object")
    ranks = [config.get("r"), *cast("dict[str, object]", pattern).values()]
    for rank in ranks:
        if not _is_count(rank) or not 1 <= cast("int", rank) <= MOST_RANK:
            raise NotAnAdapter(
                f"{CONFIG}: a rank (`r`) must be a whole number from 1 to {MOST_RANK}, not {_shown(rank)}"
            )
    alpha = config.get("lora_alpha", 1)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha < math.inf:
        raise NotAnAdapter(f"{CONFIG}: `lora_alpha` must be a number above 0, not {_shown(alpha)}")
    targets = config.get("target_modules")
    names = cast("list[object]", targets) if isinstance(targets, list) else [targets]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise NotAnAdapter(f"{CONFIG}: `target_modules` must be a list of the modules' names")
    return frozenset(cast("list[int]", ranks))


def _weights(real: str, name: str, ranks: Collection[int]) -> None:
    """The head of a safetensors file must account for every byte of it (huggingface/safetensors, "Format")."""
    tensors, size = _tensors(real, name)
    spans = sorted(_span(name, key, tensor, ranks) for key, tensor in tensors.items())
    end = 0
    for begin, stop in spans:
        if begin != end:
            raise NotAnAdapter(f"{name} is broken: its tensors overlap or leave gaps")
        end = stop
    if end != size:
        raise NotAnAdapter(f"{name} is not whole: its head speaks of {end} bytes of tensors, there are others")


def _tensors(real: str, name: str, *, follow: bool = False) -> tuple[_Entry, int]:
    """What the head of a safetensors file says of each tensor, and the bytes that follow it."""
    size = os.stat(os.path.join(real, name), follow_symlinks=follow).st_size
    length = int.from_bytes(_read(real, name, 0, 8, follow=follow), "little")
    if size < 8 or length > size - 8:
        raise NotAnAdapter(f"{name} is not whole, or no safetensors file")
    if length > MOST_HEAD_BYTES:
        raise NotAnAdapter(f"the head of {name} is larger than {MOST_HEAD_BYTES} bytes")
    try:
        found: object = orjson.loads(_read(real, name, 8, length, follow=follow))
    except ValueError:
        raise NotAnAdapter(f"{name} is no safetensors file: its head is not JSON") from None
    if not isinstance(found, dict):
        raise NotAnAdapter(f"{name} is no safetensors file: its head is not a JSON object")
    tensors = {key: value for key, value in cast("dict[str, object]", found).items() if key != "__metadata__"}
    if not tensors:
        raise NotAnAdapter(f"{name} holds no tensors")
    return tensors, size - 8 - length


def _span(name: str, key: str, found: object, ranks: Collection[int]) -> tuple[int, int]:
    """Where a tensor begins and ends, in bytes after the head."""
    broken = NotAnAdapter(f"{name} is broken: what it says of the tensor {_shown(key)} makes no sense")
    if not isinstance(found, dict):
        raise broken
    tensor = cast("_Entry", found)
    shape, offsets = tensor.get("shape"), tensor.get("data_offsets")
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(cast("list[object]", offsets)) != 2:
        raise broken
    counts = [*cast("list[object]", shape), *cast("list[object]", offsets)]
    if not all(_is_count(count) and cast("int", count) >= 0 for count in counts):
        raise broken
    sides, (begin, end) = cast("list[int]", shape), cast("list[int]", offsets)
    bits = _BITS.get(str(tensor.get("dtype")))
    if bits is None or len(sides) > 8 or math.prod(sides) * bits != (end - begin) * 8:
        raise broken
    if ranks and ".lora_A." in key and len(sides) == 2 and not any(sides[0] % rank == 0 for rank in ranks):
        raise NotAnAdapter(f"{name}: {_shown(key)} is of rank {sides[0]}, and {CONFIG} says {min(ranks)}")
    return begin, end


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(value: object) -> str:
    """For a message: short, and nothing that a terminal acts on."""
    return ascii(value)[:80]


def complaint(path: str) -> str:
    """Why an adapter at this path is not to be loaded, "" where nothing is wrong with it."""
    try:
        examine(path)
    except NotAnAdapter as error:
        return str(error)
    return ""


def unfit(path: str) -> str:
    """Why no engine can load what this machine sees at a path; "" where nothing is wrong, or there are no files to be
    seen. It says nothing of links, formats and ranks: those are the operator's choice."""
    try:
        with os.scandir(path) as entries:
            names = {entry.name for entry in islice(entries, MOST_FILES + 1)}
    except (OSError, ValueError):
        return ""
    if not names or len(names) > MOST_FILES:
        return ""
    try:
        _config(_read(path, CONFIG, 0, MOST_CONFIG_BYTES, whole=True, follow=True))
        if WEIGHTS in names:
            tensors, size = _tensors(path, WEIGHTS, follow=True)
            if max(map(_end, tensors.values())) > size:
                raise NotAnAdapter(f"{WEIGHTS} is not whole")
        elif all(name.endswith(".json") for name in names):
            raise NotAnAdapter("there are no weights beside its configuration")
    except NotAnAdapter as error:
        return str(error)
    except (OSError, ValueError):  # an engine may be allowed more
        return ""
    return ""


def _end(tensor: object) -> int:
    """Where a tensor ends, as far as it says so."""
    offsets = cast("_Entry", tensor).get("data_offsets") if isinstance(tensor, dict) else None
    last = cast("list[object]", offsets)[-1] if isinstance(offsets, list) and offsets else 0
    return cast("int", last) if _is_count(last) else 0
