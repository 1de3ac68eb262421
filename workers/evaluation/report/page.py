"""A report as one page that needs nothing else: no script, no font, no picture from anywhere."""

from __future__ import annotations

from importlib.resources import files

from workers.evaluation.report.document import SLIM, SYMBOLS, WIDE, Card, Cell, Figure, Report, Section, State, Table
from workers.evaluation.report.figures.canvas import STYLE
from workers.evaluation.report.markup import Markup, joined, tag
from workers.evaluation.report.palette import DARK, LIGHT, tones, variables

_BEYOND = 1.5  # the end of a gauge, in bounds
_BESIDE = 460.0  # up to this height a figure stands beside its words
_OPENED = 3  # of so many versions the gates that failed are shown without being asked for


def page(report: Report) -> str:
    head = tag(
        "head",
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'),
        # Whatever a name smuggled in: nothing runs, nothing is fetched.
        Markup(
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';style-src 'unsafe-inline'\">"
        ),
        Markup('<meta name="color-scheme" content="light dark"><meta name="generator" content="Tollgate">'),
        tag("title", report.title),
        tag("style", _style()),
    )
    body = tag(
        "body",
        tag("a", "Skip to the figures", class_="skip", href="#figures"),
        _header(report),
        tag(
            "main",
            _cards(report),
            _gates(report),
            tag("div", *map(_section, report.sections), id="figures", tabindex="-1"),
        ),
        tag("footer", tag("p", report.made_with)),
    )
    return f'<!doctype html>\n<html lang="en">{head}{body}</html>\n'


def _style() -> Markup:
    written = files(__package__ or "").joinpath("style.css").read_text(encoding="utf-8")
    dark = f"@media screen and (prefers-color-scheme:dark){{:root{{{variables(DARK)}}}}}"
    return Markup(f":root{{{variables(LIGHT)}}}{dark}{tones()}{STYLE}\n{written}")


def _header(report: Report) -> Markup:
    links = [("gates", "Gates"), *((section.anchor, section.term) for section in report.sections)]
    contents = tag("ul", *(tag("li", tag("a", title, href=f"#{anchor}")) for anchor, title in links))
    stamp = tag(
        "span",
        report.stamp,
        class_=f"stamp {report.state}" + (" share" if len(report.stamp) > 1 else ""),
        aria_hidden="true",
    )
    return tag(
        "header",
        tag("p", "Evaluation of a version" if len(report.cards) == 1 else "Evaluation of versions", class_="eyebrow"),
        tag("h1", stamp, tag("span", report.headline, ".")),
        tag("p", report.lead, class_="lead") if report.lead else "",
        tag("nav", contents, aria_label="Contents"),
    )


def _cards(report: Report) -> Markup:
    alone = len(report.cards) == 1
    return tag(
        "section",
        *(_card(card, alone) for card in report.cards),
        class_="cards alone" if alone else "cards",
        aria_label="At a glance",
    )


def _card(card: Card, alone: bool) -> Markup:
    facts = tag(
        "dl",
        *(
            tag("div", tag("dt", fact.name), tag("dd", fact.value), tag("dd", fact.detail, class_="detail"))
            for fact in card.facts
        ),
    )
    if alone:
        return tag("article", facts)
    badge = tag("span", _symbol(card.state), card.verdict, class_=f"badge {card.state}")
    return tag(
        "article",
        tag("h2", tag("bdi", card.name, class_=f"name {card.tone}"), " ", badge),
        tag("p", card.reasons, class_="reasons"),
        facts,
    )


def _gates(report: Report) -> Markup:
    alone = len(report.cards) == 1
    return tag(
        "section",
        tag("p", "Gates", class_="eyebrow"),
        tag("h2", "What it had to keep"),
        tag(
            "p",
            "What was measured and the bound it must keep. The bar is how much of what may be lost has been lost; the"
            " stroke on it is the bound.",
            class_="note",
        ),
        *(_gates_of(card, alone, len(report.cards) <= _OPENED) for card in report.cards),
        id="gates",
    )


def _gates_of(card: Card, alone: bool, opened: bool) -> Markup:
    table = _table(card.gates, "gates") if card.gates else tag("p", "No gate has judged it.")
    if alone:
        return table
    summary = tag(
        "summary",
        _symbol(card.state),
        tag("bdi", card.name, class_=f"name {card.tone}"),
        tag("span", f" {card.verdict}: {card.summary}", class_="aside"),
    )
    return tag("details", summary, table, open=opened and card.state != "pass")


def _section(section: Section) -> Markup:
    numbers = [figure.numbers for figure in section.figures if figure.numbers is not None]
    tables = [joined(tag("h3", table.caption), _table(table)) for table in section.tables]
    if section.folded:
        numbers, tables = [*numbers, *section.tables], []
    words = tag(
        "div",
        tag("p", section.term, class_="eyebrow"),
        tag("h2", section.title),
        tag("p", section.lead, class_="note") if section.lead else "",
    )
    folded = _folded(joined(*map(_table, numbers))) if numbers else ""
    figures = tag("div", *map(_figure, section.figures), class_="figures") if section.figures else ""
    beside = len(section.figures) == 1 and not tables and section.figures[0].draw(WIDE).height < _BESIDE
    return tag("section", words, figures, *tables, folded, id=section.anchor, class_="beside" if beside else None)


def _figure(figure: Figure) -> Markup:
    return tag(
        "figure",
        tag("figcaption", figure.title),
        figure.draw(WIDE).inline("wide"),
        figure.draw(SLIM).inline("slim"),
        tag("p", figure.note, class_="note") if figure.note else "",
    )


def _folded(content: Markup) -> Markup:
    return tag("details", tag("summary", "The numbers"), content, class_="numbers")


def _table(table: Table, class_: str = "") -> Markup:
    """In a region of its own that can be scrolled, by keyboard too, where the page is narrower than the table."""
    head = tag(
        "tr",
        *(tag("th", column, scope="col", class_=_side(table, place)) for place, column in enumerate(table.columns)),
    )
    rows = (tag("tr", *(_cell(table, place, cell) for place, cell in enumerate(row))) for row in table.rows)
    written = tag(
        "table", tag("caption", table.caption), tag("thead", head), tag("tbody", *rows), class_=class_ or None
    )
    return tag("div", written, class_="scroll", role="region", aria_label=table.caption, tabindex="0")


def _cell(table: Table, place: int, cell: Cell) -> Markup:
    gauge = _gauge(cell.gauge) if cell.gauge is not None else ""
    said = tag("bdi", cell.text, class_=f"name {cell.tone}") if cell.tone else cell.text
    inside = joined(
        _symbol(cell.state) if cell.state else "",
        gauge,
        tag("span", said, class_=cell.state) if cell.state else said,
        tag("small", cell.aside) if cell.aside else "",
    )
    side = _side(table, place)
    if place == 0:
        return tag("th", inside, scope="row", class_=side)
    return tag("td", inside, class_=side, data_label=table.columns[place])


def _side(table: Table, place: int) -> str | None:
    return "right" if table.align[place] == "r" else None


def _symbol(state: State) -> Markup:
    return tag("span", SYMBOLS[state], class_=f"symbol {state}", aria_hidden="true")


def _gauge(share: float) -> Markup:
    filled = min(share / _BEYOND, 1.0) * 100
    level = tag("span", class_="fail" if share > 1 else "pass", style=f"width:{filled:.1f}%")
    return tag("span", level, tag("i", style=f"left:{100 / _BEYOND:.1f}%"), class_="gauge", aria_hidden="true")
