"""The report on disk: a page that needs nothing else, and Markdown with its plots beside it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from workers.errors import WorkerToolError
from workers.evaluation.report.compose import compose
from workers.evaluation.report.document import WIDE, Report
from workers.evaluation.report.markdown import PLOTS, markdown
from workers.evaluation.report.page import page
from workers.evaluation.result import Evaluation

HTML, MARKDOWN = "report.html", "report.md"


def write(evaluations: Sequence[Evaluation], directory: Path) -> None:
    """report.html, report.md and plots/*.svg in a directory that is made where it is missing, other files left alone.

    Each file is there as it was or as it will be, never by half, and report.html last. Raises WrongUsage without
    evaluations, WorkerToolError where nothing can be written.
    """
    report = compose(evaluations)
    files = {f"{PLOTS}/{name}.svg": drawing for name, drawing in _plots(report).items()}
    files |= {MARKDOWN: markdown(report), HTML: page(report)}
    try:
        (directory / PLOTS).mkdir(parents=True, exist_ok=True)
        for old in (directory / PLOTS).glob("*.svg"):
            if f"{PLOTS}/{old.name}" not in files:
                old.unlink()
        for name, content in files.items():
            _replace(directory / name, content)
    except OSError as error:
        raise WorkerToolError(f"the report cannot be written to {directory}: {error.strerror or error}") from None


def _plots(report: Report) -> dict[str, str]:
    figures = [figure for section in report.sections for figure in section.figures]
    return {figure.name: figure.draw(WIDE).standalone() for figure in figures}


def _replace(path: Path, content: str) -> None:
    handle, scratch = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(content)
        os.chmod(scratch, 0o644)
        os.replace(scratch, path)
    except BaseException:
        os.unlink(scratch)
        raise
