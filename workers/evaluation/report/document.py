"""What a report says, before it is a page or a Markdown file: sections of sentences, figures and tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from workers.evaluation.report.figures.canvas import Drawing

State = Literal["pass", "fail", "open"]
SYMBOLS: dict[State, str] = {"pass": "✓", "fail": "✗", "open": "?"}
WIDE, SLIM = 500.0, 336.0  # of a figure in a column of the page, and on a phone


@dataclass(frozen=True, slots=True)
class Cell:
    """`state` puts a symbol before the text; `gauge` draws how much of what may be lost has been lost (1 is all)."""

    text: str
    state: State | None = None
    gauge: float | None = None
    tone: str | None = None
    aside: str = ""  # a smaller second line


@dataclass(frozen=True, slots=True)
class Table:
    """The first column heads its row. `align` has one of l, r for each column."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    align: str


@dataclass(frozen=True, slots=True)
class Figure:
    """`draw` takes the width; `numbers` is the same as a table, for who cannot see it or wants it exactly."""

    name: str
    title: str
    draw: Callable[[float], Drawing]
    note: str = ""
    numbers: Table | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """`term` is what the field calls what `title` says in words."""

    anchor: str
    term: str
    title: str
    lead: str = ""
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: bool = False  # its tables are shown when asked for


@dataclass(frozen=True, slots=True)
class Fact:
    """One figure of a card, with what it is and what it is compared with."""

    value: str
    name: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """One version at a glance, with its gates."""

    name: str
    tone: str
    state: State
    verdict: str
    reasons: str
    facts: tuple[Fact, ...]
    gates: Table | None
    summary: str  # of its gates


@dataclass(frozen=True, slots=True)
class Report:
    title: str
    state: State
    stamp: str
    headline: str
    lead: str
    cards: tuple[Card, ...]
    sections: tuple[Section, ...]
    made_with: str
