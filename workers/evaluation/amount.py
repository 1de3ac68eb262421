"""How much is measured: enough to judge a version, or as much as a demonstration has time for."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

from workers.evaluation.speed import Load

Part = Literal["divergence", "long-context", "tasks", "robustness", "schemas", "speed"]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True, slots=True)
class Amount:
    """Windows of text and tokens in each; log-probabilities asked for at each position; ends of long contexts and how
    many tokens of each; examples of each task, JSON schemas asked for; and what speed is measured with."""

    windows: int = 64
    window_tokens: int = 512
    top_k: int = 64
    long_windows: int = 8
    long_tail: int = 256
    longest_context: int = 32_768
    examples: int = 1000
    schemas: int = 24
    load: Load = field(default_factory=Load)

    def as_json(self) -> dict[str, int]:
        """Numbers by name, those of the load among them."""
        found = asdict(self)
        load = found.pop("load")
        return found | {f"speed_{name}": value for name, value in load.items() if isinstance(value, int)}


QUICK = Amount(
    windows=16,
    window_tokens=384,
    top_k=32,
    long_windows=2,
    examples=150,
    schemas=6,
    load=Load(rounds=3, prompt_tokens=64, answer_tokens=32),  # with less, a busy machine is all that is measured
)
FULL = Amount()
