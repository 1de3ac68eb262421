"""What can be refused before any library is loaded: a base that is no checkpoint, an output that must not be lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from workers.errors import WrongUsage


def check_base(directory: Path) -> None:
    """Refuse a directory that vLLM and llmcompressor could not load."""
    if not directory.is_dir():
        raise WrongUsage(
            f"no such checkpoint directory: {directory}\nunpack the demo models with: tollgate-worker demo-models"
        )
    config = _config(directory)
    if "quantization_config" in config:
        raise WrongUsage(f"{directory} is quantized already; quantize the original checkpoint instead")
    if not (directory / "tokenizer.json").is_file() and not (directory / "tokenizer.model").is_file():
        raise WrongUsage(
            f"{directory} has no tokenizer (tokenizer.json or tokenizer.model); copy it from the original model"
        )
    if not any(directory.glob("*.safetensors")):
        raise WrongUsage(f"{directory} has no weights (*.safetensors)")


def check_output(directory: Path, base: Path, force: bool) -> None:
    """Refuse to write over something that was not asked to be replaced."""
    if directory.resolve() == base.resolve() or base.resolve().is_relative_to(directory.resolve()):
        raise WrongUsage(f"--out {directory} would overwrite the checkpoint it is made from; choose another directory")
    if directory.exists() and not directory.is_dir():
        raise WrongUsage(f"--out {directory} is a file; choose a directory")
    if directory.exists() and not force:
        raise WrongUsage(f"{directory} exists; add --force to replace it, or --if-needed to keep it when it is current")


def _config(directory: Path) -> dict[str, Any]:
    path = directory / "config.json"
    try:
        found: Any = json.loads(path.read_text())
    except FileNotFoundError:
        raise WrongUsage(f"{directory} has no config.json; is it a Hugging Face checkpoint?") from None
    except ValueError as error:
        raise WrongUsage(f"{path} is not JSON: {error}") from None
    if not isinstance(found, dict) or "architectures" not in found:
        raise WrongUsage(f"{path} names no architectures; is it a model's config.json?")
    return cast("dict[str, Any]", found)
