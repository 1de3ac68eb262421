from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.evaluations import evaluation, several, subject, verdict
from workers.errors import WorkerToolError
from workers.evaluation.report import write
from workers.evaluation.report.markdown import escaped
from workers.evaluation.result import Evaluation, Layer, Robustness

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>](javascript:alert(1)) |`*_[x]"
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Elements(HTMLParser):
    """All elements with their attributes; fails where they are not nested."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def elements(directory: Path) -> list[tuple[str, dict[str, str | None]]]:
    parser = Elements()
    parser.feed((directory / "report.html").read_text())
    parser.close()
    assert parser.open == []
    return parser.found


def hostile() -> Evaluation:
    return evaluation(
        HOSTILE,
        candidate=subject(HOSTILE, HOSTILE, 8.0).model_copy(update={"recipe": HOSTILE, "artifact": HOSTILE}),
        reference=subject(HOSTILE + "2", "none", 16.0),
        tasks=tuple(one.model_copy(update={"name": HOSTILE}) for one in evaluation().tasks[:1]),
        robustness=(Robustness(name=HOSTILE, ok=False, detail=HOSTILE),),
        layers=tuple(
            Layer(name=f"{HOSTILE}layers.{block}.{kind}", mean_kld=0.1, kept=True) for block in (0, 1) for kind in "ab"
        ),
        verdicts=(
            verdict("divergence", 1, 0.1, 0, HOSTILE, HOSTILE).model_copy(update={"reason": HOSTILE, "gate": HOSTILE}),
        ),
        conditions=evaluation().conditions.model_copy(
            update={"device": HOSTILE, "libraries": {HOSTILE: HOSTILE}, "texts": {HOSTILE: HOSTILE}, "at": HOSTILE}
        ),
    )


@pytest.mark.parametrize("count", [1, 3, 8])
def test_a_page_needs_nothing_else(tmp_path: Path, count: int) -> None:
    write(several(count), tmp_path)

    found = elements(tmp_path)
    names = {name for name, _ in found}
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "form", "base"}
    assert {href for name, attrs in found if (href := attrs.get("href")) and not href.startswith("#")} == set()
    assert "url(" not in (tmp_path / "report.html").read_text()
    assert "@import" not in (tmp_path / "report.html").read_text()


def test_whatever_a_name_holds_stays_text(tmp_path: Path) -> None:
    for evaluations in ([hostile()], [hostile(), evaluation()]):
        write(evaluations, tmp_path)

        found = elements(tmp_path)
        assert not {name for name, _ in found} & {"script", "img"}
        assert not any(key.startswith("on") for _, attrs in found for key in attrs)
        assert "&lt;script&gt;alert(1)" in (tmp_path / "report.html").read_text()
        written = (tmp_path / "report.md").read_text()
        assert not re.search(r"<(?!/?(sub|sup)>)\w", written)
        assert "](javascript:" not in re.sub(r"\\.", "", written)
        for plot in (tmp_path / "plots").iterdir():
            root = ElementTree.fromstring(plot.read_text())
            assert not [one for one in root.iter() if one.tag.endswith("script")]


def test_every_plot_has_words_and_every_table_headers(tmp_path: Path) -> None:
    write(several(6), tmp_path)

    found = elements(tmp_path)
    assert all(attrs.get("role") == "img" and attrs.get("aria-label") for name, attrs in found if name == "svg")
    assert all(attrs.get("scope") in ("col", "row") for name, attrs in found if name == "th")
    tables = sum(name == "table" for name, _ in found)
    assert tables == sum(name == "caption" for name, _ in found)
    ids = [attrs["id"] for _, attrs in found if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = {str(attrs["href"]).removeprefix("#") for name, attrs in found if name == "a"}
    assert targets <= set(ids)


def test_markdown_shows_every_plot_that_is_there(tmp_path: Path) -> None:
    write(several(3), tmp_path)

    shown = re.findall(r"\]\((plots/[\w-]+\.svg)\)", (tmp_path / "report.md").read_text())
    assert sorted(shown) == sorted(f"plots/{one.name}" for one in (tmp_path / "plots").iterdir())
    columns = [
        line.count("|") for line in (tmp_path / "report.md").read_text().splitlines() if line.startswith("| :--")
    ]
    assert columns


def test_a_table_of_markdown_has_as_many_cells_in_each_row(tmp_path: Path) -> None:
    write([hostile()], tmp_path)

    block: list[int] = []
    for line in (tmp_path / "report.md").read_text().splitlines():
        if line.startswith("| "):
            block.append(len(re.findall(r"(?<!\\)\|", line)))
        else:
            assert len(set(block)) <= 1
            block = []


@pytest.mark.parametrize(("text", "safe"), [("a|b", r"a\|b"), ("<b>", "&lt;b&gt;"), ("a\nb", "a b"), ("*x*", r"\*x\*")])
def test_markdown_takes_nothing_for_its_own(text: str, safe: str) -> None:
    assert escaped(text) == safe


def test_the_same_evaluations_give_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write(several(3), tmp_path / name)

    one, other = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("one", "other")
    )
    assert one == other


def test_another_report_takes_the_place_of_the_first_and_leaves_the_rest(tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text("{}")
    write(several(6), tmp_path)
    assert (tmp_path / "plots/sensitivity-6.svg").exists()

    write(several(1), tmp_path)

    assert not (tmp_path / "plots/sensitivity-6.svg").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evaluation.json", "plots", "report.html", "report.md"]


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(WorkerToolError, match="the report cannot be written to"):
        write(several(1), tmp_path / "file")
