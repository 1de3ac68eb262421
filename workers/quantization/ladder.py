"""Down the ladder of precisions for as long as the gate passes: what to try next, and what to ship in the end.

A ladder has steps of fewer and fewer bits, a step alternatives of as many: the first of them that passes is the step's,
and a step of which none passes is the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workers.errors import WrongUsage
from workers.quantization.recipes import RECIPES

Steps = tuple[tuple[str, ...], ...]

NO_STEPS = ("ladder", "merge")
DEFAULT = "fp8/w8a8,w4a16-gptq/w4a16-awq"


@dataclass(frozen=True, slots=True)
class Try:
    recipe: str


@dataclass(frozen=True, slots=True)
class Ship:
    """`recipe` is None where not even the first step passed."""

    recipe: str | None


def parse_ladder(text: str) -> Steps:
    """`fp8/w8a8,w4a16-gptq`: steps with commas between them, alternatives with slashes. Raises WrongUsage."""
    steps = tuple(tuple(name.strip() for name in step.split("/")) for step in text.split(","))
    names = [name for step in steps for name in step]
    for name in names:
        if name not in RECIPES or RECIPES[name].method in NO_STEPS:
            known = ", ".join(recipe.name for recipe in RECIPES.values() if recipe.method not in NO_STEPS)
            raise WrongUsage(f"--ladder {text}: {name!r} is no recipe of it; known are {known}")
    if len(set(names)) < len(names):
        raise WrongUsage(f"--ladder {text}: a recipe is there twice")
    return steps


def next_move(steps: Steps, passed: Mapping[str, bool]) -> Try | Ship:
    """`passed` has the recipes tried so far."""
    last: str | None = None
    for step in steps:
        winner = _first(step, passed)
        if isinstance(winner, Try):
            return winner
        if winner is None:
            break
        last = winner
    return Ship(last)


def _first(step: Sequence[str], passed: Mapping[str, bool]) -> str | Try | None:
    """The alternative that passed, the next to try, or None where all failed."""
    for name in step:
        if name not in passed:
            return Try(name)
        if passed[name]:
            return name
    return None
