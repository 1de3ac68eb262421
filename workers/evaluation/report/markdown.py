"""A report as Markdown, with its figures as files beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from workers.evaluation.report.document import SYMBOLS, Card, Cell, Figure, Report, Section, Table
from workers.evaluation.report.markup import plain

PLOTS = "plots"
_SPECIAL = re.compile(r"([\\`*_\[\]|~#!$])")
_GAUGE = 10


def escaped(text: str) -> str:
    """On one line, and with nothing that Markdown or the HTML in it would take for its own."""
    safe = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", safe)


def markdown(report: Report) -> str:
    return "\n\n".join(_blocks(report)) + "\n"


def _blocks(report: Report) -> Iterator[str]:
    yield f"# {escaped(report.stamp)} {escaped(report.headline)}"
    yield f"**{escaped(report.lead)}**" if report.lead else ""
    if len(report.cards) > 1:
        yield _overview(report.cards)
    yield "## Gates"
    for card in report.cards:
        if len(report.cards) > 1:
            yield f"### {SYMBOLS[card.state]} {escaped(card.name)} {card.verdict}"
            yield escaped(card.reasons)
        yield _table(card.gates) if card.gates else "No gate has judged it."
    for section in report.sections:
        yield from _section(section)
    yield f"*{escaped(report.made_with)}*"


def _section(section: Section) -> Iterator[str]:
    yield f"## {escaped(section.term)}: {escaped(section.title)}"
    if section.lead:
        yield escaped(section.lead)
    for figure in section.figures:
        yield from _figure(figure)
    for table in section.tables:
        yield f"**{escaped(table.caption)}**"
        yield _table(table)


def _figure(figure: Figure) -> Iterator[str]:
    yield f"![{escaped(figure.draw(400).alt)}]({PLOTS}/{figure.name}.svg)"
    yield f"*{escaped(figure.title)}.{' ' + escaped(figure.note) if figure.note else ''}*"
    if figure.numbers:
        yield _table(figure.numbers)


def _overview(cards: tuple[Card, ...]) -> str:
    names = list(dict.fromkeys(fact.name for card in cards for fact in card.facts))
    rows: list[tuple[Cell, ...]] = []
    for card in cards:
        facts = {fact.name: fact.value for fact in card.facts}
        values = (Cell(facts.get(name, "–")) for name in names)
        rows.append((Cell(card.name), Cell(card.verdict, state=card.state), *values, Cell(card.summary)))
    columns = ("version", "verdict", *names, "gates")
    return _table(Table("Versions", columns, tuple(rows), "ll" + "r" * len(names) + "l"))


def _table(table: Table) -> str:
    rules = {"l": ":--", "r": "--:"}
    head = (table.columns, tuple(rules[one] for one in table.align))
    written = ["| " + " | ".join(one) + " |" for one in (tuple(map(escaped, head[0])), head[1])]
    written += ["| " + " | ".join(map(_cell, row)) + " |" for row in table.rows]
    return "\n".join(written)


def _cell(cell: Cell) -> str:
    said = escaped(cell.text)
    if cell.state:
        said = f"{SYMBOLS[cell.state]} {said}"
    if cell.gauge is not None:
        filled = _GAUGE if cell.gauge >= 1 else round(cell.gauge * _GAUGE)
        said = f"{'▰' * filled}{'▱' * (_GAUGE - filled)} {said}"
    return f"{said} ({escaped(cell.aside)})" if cell.aside else said
