"""`adapter_config.json` as PEFT writes it."""

from __future__ import annotations

import json
from pathlib import Path

CONFIG = "adapter_config.json"


def settle(directory: Path, base: str) -> None:
    """Says which base by its name, not its path on this machine, and lists the modules in an order that stays."""
    path = directory / CONFIG
    settings = json.loads(path.read_text())
    settings |= {"base_model_name_or_path": base, "target_modules": sorted(settings["target_modules"])}
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
