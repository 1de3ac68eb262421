"""What a reader of the configuration has to say: where, how bad, what is wrong and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

Severity = Literal["error", "warning"]


class Place(NamedTuple):
    """A line of a file, counted from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Problem:
    file: str
    line: int
    message: str  # what is wrong, then what to write instead
    severity: Severity = "error"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.severity}: {self.message}"


class ConfigError(Exception):
    """A configuration that cannot run. `problems` holds all that was found, warnings included, in file order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class Findings:
    """Collects problems. A remedy is demanded with each, so that no message only complains."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}  # a set that keeps its order

    def error(self, place: Place, wrong: str, remedy: str) -> None:
        self._add(place, wrong, remedy, "error")

    def warn(self, place: Place, wrong: str, remedy: str) -> None:
        self._add(place, wrong, remedy, "warning")

    @property
    def failed(self) -> bool:
        return any(problem.severity == "error" for problem in self._found)

    def sorted(self) -> list[Problem]:
        return sorted(self._found, key=lambda problem: (problem.file, problem.line))

    def _add(self, place: Place, wrong: str, remedy: str, severity: Severity) -> None:
        self._found[Problem(place.file, place.line, f"{wrong}: {remedy}", severity)] = None


def choices(words: Iterable[str], limit: int = 12) -> str:
    """`a`, `b` or `c`; a long list is cut."""
    quoted = [f"`{word}`" for word in words]
    if len(quoted) > limit:
        return ", ".join(quoted[:limit]) + f" … ({len(quoted)} in all)"
    return " or ".join(part for part in (", ".join(quoted[:-1]), *quoted[-1:]) if part)


def did_you_mean(word: str, known: Iterable[str], nothing_known: str) -> str:
    """A remedy for a name that does not exist: the nearest that does, or all there are."""
    known = sorted(set(known))
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6) or [name for name in known if name.startswith(word)]
    if near:
        return f"did you mean `{near[0]}`?"
    return f"write one of {choices(known)}" if known else nothing_known
