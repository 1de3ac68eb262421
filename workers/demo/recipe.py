"""What is built: the shapes of the two models and how long each is trained."""

from __future__ import annotations

from dataclasses import dataclass

SEED = 20260
BATCH_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of training: how many steps, on windows of what length, how much of it source code."""

    steps: int
    window: int
    code_share: float


@dataclass(frozen=True, slots=True)
class Recipe:
    """A Llama and its training. Widths are multiples of 128, which the W4A16 and W8A8 kernels need."""

    name: str
    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    learning_rate: float
    stages: tuple[Stage, ...]

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)


# The last stage of each uses long windows, so that every position of the context has been trained.
SCRIBE = Recipe(
    name="scribe",
    hidden=256,
    layers=5,
    intermediate=768,
    heads=4,
    kv_heads=2,
    head_dim=64,
    learning_rate=0.02,
    stages=(Stage(700, 512, 0.6), Stage(300, 512, 0.2), Stage(60, 2048, 0.3)),
)
SCRIBE_MINI = Recipe(
    name="scribe-mini",
    hidden=128,
    layers=4,
    intermediate=384,
    heads=4,
    kv_heads=2,
    head_dim=32,
    learning_rate=0.02,
    stages=(Stage(500, 512, 0.6), Stage(250, 512, 0.2), Stage(60, 2048, 0.3)),
)
