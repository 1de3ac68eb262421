"""Hard inputs and JSON schemas: inputs downwards, versions across."""

from __future__ import annotations

from collections.abc import Sequence

from workers.evaluation.report.document import Cell, Section, Table
from workers.evaluation.report.numbers import NONE, counted, percent, spelled
from workers.evaluation.report.versions import Candidate
from workers.evaluation.result import Robustness, SchemaAdherence

_MODES = {"guided": "with structured outputs", "prompted": "asked in the prompt"}


def robustness(found: Sequence[Candidate]) -> Section | None:
    tables = [table for table in (_hard(found), _schemas(found)) if table is not None]
    if not tables:
        return None
    hard = [part.ok for one in found for part in one.evaluation.robustness]
    failed = hard.count(False)
    wrong = spelled(failed) if failed else "none"
    lead = f"Of {counted(len(hard), 'hard input')} {wrong} went wrong where the reference coped." if hard else ""
    return Section(
        "robustness",
        "Robustness and schemas",
        "How it copes with what is hard",
        lead,
        tables=tuple(tables),
        folded=not failed and not _lost(found),
    )


def _lost(found: Sequence[Candidate]) -> bool:
    """Whether answers are no longer valid that the reference's were."""
    return any(part.candidate_valid < part.reference_valid for one in found for part in one.evaluation.schemas)


def _hard(found: Sequence[Candidate]) -> Table | None:
    names = list(dict.fromkeys(part.name for one in found for part in one.evaluation.robustness))
    if not names:
        return None
    measured = [(one, {part.name: part for part in one.evaluation.robustness}) for one in found]
    rows = tuple((Cell(name), *(_coped(parts.get(name), len(found) == 1) for _, parts in measured)) for name in names)
    caption = "Hard inputs, against how the reference coped"
    return Table(caption, ("input", *(one.label for one in found)), rows, "l" * (len(found) + 1))


def _coped(part: Robustness | None, alone: bool) -> Cell:
    if part is None:
        return Cell(NONE)
    detail = part.detail if alone or not part.ok else ""
    return Cell("coped" if part.ok else "did not", state="pass" if part.ok else "fail", aside=detail)


def _schemas(found: Sequence[Candidate]) -> Table | None:
    modes = list(dict.fromkeys(part.mode for one in found for part in one.evaluation.schemas))
    if not modes:
        return None
    rows: list[tuple[Cell, ...]] = []
    for mode in modes:
        parts = [next((part for part in one.evaluation.schemas if part.mode == mode), None) for one in found]
        asked = max((part.asked for part in parts if part), default=0)
        rows.append((Cell(_MODES[mode], aside=f"{asked:,} asked"), *map(_valid, parts)))
    caption = "Answers valid under the JSON schema asked for, and of the reference"
    return Table(caption, ("", *(one.label for one in found)), tuple(rows), "l" + "r" * len(found))


def _valid(part: SchemaAdherence | None) -> Cell:
    if part is None or not part.asked:
        return Cell(NONE)
    reference = percent(part.reference_valid / part.asked, 0)
    return Cell(percent(part.candidate_valid / part.asked, 0), aside=f"reference {reference}")
