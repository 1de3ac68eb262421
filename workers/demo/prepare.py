"""`python -m workers.demo.prepare`: puts the demo's checkpoints into var/models, unpacked and quantized where needed.

Each step is a command of `tollgate-worker`, printed as it runs, so that the next model can be made the same way.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MODELS = Path("var/models")
QUANTIZED = {"fp8": "fp8", "int8": "w8a8", "int4": "w4a16-gptq"}  # version -> recipe


def commands() -> list[list[str]]:
    """In order; each does nothing when its output is there and current."""
    base = str(MODELS / "scribe")
    quantize = [
        ["quantize", base, "--recipe", recipe, "--out", f"{base}-{version}", "--if-needed"]
        for version, recipe in QUANTIZED.items()
    ]
    return [["demo-models", "--out", str(MODELS)], *quantize]


def main() -> int:
    for command in commands():
        print(f"$ tollgate-worker {' '.join(command)}", flush=True)
        status = subprocess.run([sys.executable, "-m", "workers.cli", *command], check=False).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
