"""What was measured and with what: enough to do it again."""

from __future__ import annotations

from collections.abc import Sequence

from workers.evaluation.report.document import Cell, Section, Table
from workers.evaluation.report.numbers import NONE, number, size
from workers.evaluation.report.versions import Candidate, Reference


def lineage(found: Sequence[Candidate], references: Sequence[Reference]) -> Section:
    subjects = [(one.name, one.tone, one.subject) for one in (*references, *found)]
    rows = tuple(
        (
            Cell(name, tone=tone, aside="reference" if tone == "ref" else ""),
            Cell(subject.quantization, aside=subject.recipe or ""),
            Cell(number(subject.bits_per_weight)),
            Cell(size(subject.weight_bytes)),
            Cell(subject.artifact or subject.endpoint or NONE),
            Cell(subject.digest or "none: an endpoint"),
        )
        for name, tone, subject in subjects
    )
    columns = ("version", "quantization", "bits per weight", "weights", "from", "digest")
    tables = [Table("Versions", columns, rows, "llrrll"), _conditions(found)]
    texts = _texts(found)
    if texts is not None:
        tables.append(texts)
    return Section("lineage", "Lineage and conditions", "With what it was measured", tables=tuple(tables))


def _conditions(found: Sequence[Candidate]) -> Table:
    rows = tuple(
        (
            Cell(one.name, tone=one.tone),
            Cell(one.evaluation.conditions.at),
            Cell(one.evaluation.conditions.engine),
            Cell(one.evaluation.conditions.device),
            Cell(str(one.evaluation.conditions.seed)),
            Cell(
                ", ".join(f"{name} {version}" for name, version in one.evaluation.conditions.libraries.items()) or NONE
            ),
            Cell(
                ", ".join(
                    f"{name.replace('_', ' ')} {count:,}" for name, count in one.evaluation.conditions.amount.items()
                )
                or NONE
            ),
            Cell(one.evaluation.conditions.tollgate),
        )
        for one in found
    )
    return Table(
        "Conditions", ("version", "at", "engine", "device", "seed", "libraries", "amount", "tollgate"), rows, "llllllll"
    )


def _texts(found: Sequence[Candidate]) -> Table | None:
    """Each text once, where versions were asked the same."""
    by_text: dict[tuple[str, str], list[str]] = {}
    for one in found:
        for name, digest in one.evaluation.conditions.texts.items():
            by_text.setdefault((name, digest), []).append(one.label)
    rows = tuple(
        (Cell(name), Cell(digest), Cell("all" if len(labels) == len(found) else ", ".join(labels)))
        for (name, digest), labels in by_text.items()
    )
    return Table("What was asked", ("text", "SHA-256", "of"), rows, "lll") if rows else None
