"""What can be refused before any library is loaded: a base that is no checkpoint, an output that must not be lost."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from workers.errors import WrongUsage
from workers.quantization.manifest import is_manifest
from workers.quantization.weights import tensors_of
from workers.reading import content
from workers.weight_files import Tensor

TOKENIZERS = ("tokenizer.json", "tokenizer.model")
CAUSAL = ("ForCausalLM", "LMHeadModel")  # how transformers ends the names of models that continue a text


def check_base(directory: Path) -> list[Tensor]:
    """The tensors of a checkpoint. Refuses a directory that the libraries or the engine could not load as one."""
    if not directory.is_dir():
        raise WrongUsage(
            f"no such checkpoint directory: {directory}\nunpack the demo models with: tollgate-worker demo-models"
        )
    if (directory / "adapter_config.json").is_file():
        raise WrongUsage(f"{directory} is a LoRA adapter; give its base, and the adapter with --adapter {directory}")
    config = _config(directory)
    if "quantization_config" in config:
        raise WrongUsage(f"{directory} is quantized already; quantize the original checkpoint instead")
    _check_architecture(directory, config["architectures"])
    _check_tokenizer(directory)
    return tensors_of(directory)


def check_output(directory: Path, base: Path, force: bool) -> None:
    """Refuse to write over something that was not asked to be replaced."""
    if directory.resolve() == base.resolve() or base.resolve().is_relative_to(directory.resolve()):
        raise WrongUsage(f"--out {directory} would overwrite the checkpoint it is made from; choose another directory")
    if directory.resolve().is_relative_to(base.resolve()):
        raise WrongUsage(f"--out {directory} is inside the checkpoint it is made from; choose a directory beside it")
    if directory.exists() and not directory.is_dir():
        raise WrongUsage(f"--out {directory} is a file; choose a directory")
    if directory.exists() and not force:
        raise WrongUsage(f"{directory} exists; add --force to replace it, or --if-needed to keep it when it is current")
    if directory.is_dir() and any(directory.iterdir()) and not is_manifest(directory):
        raise WrongUsage(
            f"--out {directory} holds something else than a quantized checkpoint; choose another directory, or empty it"
        )
    parent = next(path for path in directory.absolute().parents if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise WrongUsage(
            f"--out {directory} cannot be written: {parent} is not a directory that this user may write to"
        )


def _check_architecture(directory: Path, architectures: object) -> None:
    names: Sequence[object] = cast("list[object]", architectures) if isinstance(architectures, list) else ()
    if not any(isinstance(name, str) and name.endswith(CAUSAL) for name in names):
        raise WrongUsage(
            f"{directory} is {', '.join(map(str, names)) or 'nothing'}, and only models that continue a text can be"
            " quantized here (architectures: [...ForCausalLM] in config.json)"
        )


def _check_tokenizer(directory: Path) -> None:
    if not any((directory / name).is_file() for name in TOKENIZERS):
        raise WrongUsage(
            f"{directory} has no tokenizer (tokenizer.json or tokenizer.model); copy it from the original model"
        )
    written = directory / TOKENIZERS[0]
    if written.is_file():
        try:
            json.loads(content(written))
        except OSError as error:
            raise WrongUsage(f"{written} cannot be read: {error.strerror}; copy it from the original model") from None
        except (ValueError, RecursionError) as error:
            raise WrongUsage(f"{written} is not JSON ({error}); copy it from the original model") from None


def _config(directory: Path) -> dict[str, Any]:
    path = directory / "config.json"
    try:
        found: Any = json.loads(content(path))
    except FileNotFoundError:
        raise WrongUsage(f"{directory} has no config.json; is it a Hugging Face checkpoint?") from None
    except OSError as error:
        raise WrongUsage(f"{path} cannot be read: {error.strerror}; download or copy it again") from None
    except (ValueError, RecursionError) as error:
        raise WrongUsage(f"{path} is not JSON: {error}; download or copy it again") from None
    if not isinstance(found, dict) or "architectures" not in found:
        raise WrongUsage(f"{path} names no architectures; is it a model's config.json?")
    return cast("dict[str, Any]", found)


def longest_context(directory: Path) -> int | None:
    """In tokens, where the configuration says so."""
    found: object = _config(directory).get("max_position_embeddings")
    return found if isinstance(found, int) else None
