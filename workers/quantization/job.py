"""One piece of work, as the command hands it to the quantization environment: checked, and with all digests known."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from workers.quantization.manifest import Asked, Base
from workers.quantization.recipes import RECIPES, QuantizationRecipe


class AdapterJob(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    directory: Path
    digest: str
    rank: int
    merge: bool


class Job(BaseModel):
    """`calibration` are files in the order they are read in, none for the built-in text; `bits` is mixed precision's
    budget per linear weight."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe_name: str
    directory: Path
    out: Path
    base: Base
    adapter: AdapterJob | None
    calibration: tuple[Path, ...]
    calibration_digest: str | None
    samples: int
    length: int
    seed: int
    threads: int
    bits: float

    @property
    def recipe(self) -> QuantizationRecipe:
        return RECIPES[self.recipe_name]

    @property
    def parameters(self) -> dict[str, str | int | float]:
        """Everything but the data that the result depends on."""
        budget = {"bits": self.bits} if self.recipe.method == "mixed" else {}
        return dict(self.recipe.parameters) | budget

    @property
    def asked(self) -> Asked:
        calibrated = self.recipe.needs_calibration
        return Asked(
            recipe=self.recipe_name,
            parameters=self.parameters,
            base_digest=self.base.digest,
            adapter_digest=self.adapter and self.adapter.digest,
            merged=self.adapter and self.adapter.merge,
            calibration_files=self.calibration_digest if calibrated else None,
            windows=self.samples if calibrated else None,
            length=self.length if calibrated else None,
            seed=self.seed,
            threads=self.threads,
        )
