"""The rows of the table: which version each is, how it is made, and what was published of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from workers.errors import WrongUsage

BATCHES = (1, 4, 8, 16)  # requests at a time


@dataclass(frozen=True, slots=True)
class Published:
    """LLaMA-7B on an A100 and WikiText; None where nothing was published. Requests per second by batch."""

    tokens_per_second: float | None
    requests_per_second: tuple[tuple[int, float], ...]
    perplexity: float | None
    memory_saved: float | None  # share of FP16's


@dataclass(frozen=True, slots=True)
class Row:
    """`bits` are those of the linear layers' weights; `capability` is what the engine's fast kernels need of a GPU."""

    name: str
    recipe: str | None  # None: as it is
    bits: int
    capability: float
    published: Published


ROWS: dict[str, Row] = {
    row.name: row
    for row in (
        Row("fp16", None, 16, 7.0, Published(48, ((1, 42), (4, 128), (8, 215), (16, 298)), 5.12, 0.0)),
        Row("fp8", "fp8", 8, 8.9, Published(None, (), None, None)),
        Row("int8", "w8a8", 8, 7.5, Published(112, (), 5.24, 0.5)),
        Row("int4", "w4a16-gptq", 4, 7.5, Published(186, ((1, 162), (4, 452), (8, 721), (16, 845)), 5.67, 0.75)),
    )
}


def chosen(names: str) -> tuple[Row, ...]:
    """Of a list with commas, in the table's order. Raises WrongUsage."""
    asked = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in asked if name not in ROWS]
    if unknown or not asked:
        raise WrongUsage(f"--rows {names}: there are {', '.join(ROWS)}; write those you want with commas")
    return tuple(row for row in ROWS.values() if row.name in asked)


@dataclass(frozen=True, slots=True)
class Plan:
    """Where everything of one table lies, and what is handed to the commands that make it."""

    model: Path
    out: Path
    quick: bool = False
    text: Path | None = None
    samples: int | None = None
    calibration: Path | None = None
    context: int | None = None

    def checkpoint(self, row: Row) -> Path:
        return self.model if row.recipe is None else self.out / "checkpoints" / row.name

    def evaluation(self, row: Row) -> Path:
        return self.out / "evaluations" / row.name

    def note(self, row: Row) -> Path:
        """With what its evaluation was asked for; it is written last, so it is there only for a row that is done."""
        return self.out / "evaluations" / f"{row.name}.asked.json"

    def quantize(self, row: Row) -> list[str] | None:
        """None for the model as it is."""
        if row.recipe is None:
            return None
        return [
            *("quantize", str(self.model), "--recipe", row.recipe, "--out", str(self.checkpoint(row)), "--if-needed"),
            *(("--samples", str(self.samples)) if self.samples else ()),
            *(("--calibration", str(self.calibration)) if self.calibration else ()),
        ]

    def evaluate(self, row: Row) -> list[str]:
        return [
            *("evaluate", "--candidate", str(self.checkpoint(row)), "--reference", str(self.model)),
            *("--out", str(self.evaluation(row)), "--name", row.name),
            *("--only", "divergence", "--only", "speed"),
            *("--cache", str(self.out / "cache"), "--log-dir", str(self.out / "log" / row.name)),
            *(("--quick",) if self.quick else ()),
            *(("--text", str(self.text)) if self.text else ()),
            *(("--context", str(self.context)) if self.context else ()),
        ]
