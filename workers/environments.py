"""The Python environments of a checkout: the engine and the quantization libraries live apart from the gateway.

Their pinned dependencies exclude each other, so a command that needs one of them starts itself again inside it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from workers.errors import WorkerToolError

PACKAGE_ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Environment:
    """Where one environment is and how it is made."""

    name: str
    override: str
    make_target: str

    def python(self, checkout: Path, environ: Mapping[str, str] = os.environ) -> Path:
        """Its interpreter: what the override variable names, or `.venvs/NAME` of the checkout."""
        if chosen := environ.get(self.override):
            python = Path(chosen)
            remedy = f"correct {self.override}"
        else:
            python = checkout / ".venvs" / self.name / "bin" / "python"
            remedy = f"create it with: make {self.make_target}   (or set {self.override} to its python)"
        if not os.access(python, os.X_OK):
            raise WorkerToolError(f"the {self.name} environment is missing: no {python}\n{remedy}")
        return python


ENGINE = Environment("engine", "TOLLGATE_ENGINE_PYTHON", "engine-env")
QUANTIZE = Environment("quantize", "TOLLGATE_QUANTIZE_PYTHON", "quantize-env")


# Why each: everything these commands need is on this machine; on busy cores, spinning threads make training ten times
# slower; the libraries' own log is about their insides, and what goes wrong is an exception; their bars fill a log, and
# the commands have their own.
SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "LLM_COMPRESSOR_LOG_LEVEL": "ERROR",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONWARNINGS": "ignore",
    "TQDM_DISABLE": "1",
}


def become(environment: Environment, module: str, arguments: Sequence[str], checkout: Path) -> NoReturn:
    """Replace this process by `python -m MODULE` of another environment: signals and exit code stay its own."""
    python = environment.python(checkout)
    environ = SETTINGS | os.environ
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(PACKAGE_ROOT), environ.get("PYTHONPATH"))))
    os.execve(python, [str(python), "-m", module, *arguments], environ)
