"""The page in a real browser: nothing is said on its console, nothing fetched, cut off, covered or too faint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chromium import Page, browser
from tests.evaluations import evaluation, several
from workers.evaluation.report import write

pytestmark = pytest.mark.timeout(600)

LONG = "an-organisation/a-model-with-a-name-that-never-ends-8x22b-instruct-v0.3@w4a16-gptq-group128-calibrated-on-ours"

# Of everything that is shown: what sticks out of the window, texts cut off or on top of each other in a plot, and text
# whose contrast with what is behind it is below that of WCAG 2.2 AA.
SURVEY = """(() => {
  const wide = document.documentElement.clientWidth, found = {scroll: [], out: [], cut: [], covered: [], faint: []};
  if (document.documentElement.scrollWidth > wide) found.scroll.push(document.documentElement.scrollWidth);
  const name = one => (one.textContent || one.tagName).trim().slice(0, 60);
  const seen = one => one.getClientRects().length && getComputedStyle(one).visibility !== 'hidden';
  const hidden = one => one.closest('caption, .skip, title');
  for (const one of document.querySelectorAll('body *')) {
    if (!seen(one) || hidden(one) || one.closest('.scroll')) continue;
    const box = one.getBoundingClientRect();
    if (!one.closest('svg') && (box.right > wide + 1 || box.left < -1)) found.out.push(name(one));
  }
  for (const plot of document.querySelectorAll('svg')) {
    if (!seen(plot)) continue;
    const edge = plot.getBoundingClientRect();
    const texts = [...plot.querySelectorAll('text')].map(one => [one, one.getBoundingClientRect()]);
    for (const [one, box] of texts)
      if (box.left < edge.left - 1 || box.right > edge.right + 1
          || box.top < edge.top - 1 || box.bottom > edge.bottom + 1)
        found.cut.push(plot.getAttribute('aria-label').slice(0, 30) + ': ' + name(one));
    for (let i = 0; i < texts.length; i++) for (let j = i + 1; j < texts.length; j++) {
      const [a, b] = [texts[i][1], texts[j][1]];
      const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      // A line of text is higher than its letters by a quarter above and beneath.
      const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) - 4;
      if (x > 1 && y > 1) found.covered.push(name(texts[i][0]) + ' | ' + name(texts[j][0]));
    }
  }
  const rgb = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const linear = c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  const light = colour => colour.slice(0, 3).map(c => linear(c / 255))
    .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  const ground = one => {
    for (let at = one; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const one = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !seen(one) || hidden(one)) continue;
    const style = getComputedStyle(one), ink = rgb(one.closest('svg') ? style.fill : style.color);
    const [a, b] = [light(ink), light(ground(one))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) found.faint.push(name(one) + ' ' + style.color);
  }
  return found;
})()"""

REPORTS = {
    "one": lambda: several(6)[5:],
    "three": lambda: several(3),
    "eight": lambda: several(8),
    "long": lambda: [evaluation(LONG), evaluation(LONG + "-2", kld=0.4), evaluation("量化版本@" + "整数_" * 30)],
}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("reports")
    for name, made in REPORTS.items():
        write(made(), directory / name)
    return directory


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (768, False), (375, False), (375, True)])
def test_everything_can_be_seen(page: Page, reports: Path, name: str, width: int, dark: bool) -> None:
    page.open(reports / name / "report.html", width=width, dark=dark)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")

    found: dict[str, Any] = page.evaluate(SURVEY)

    assert found == {"scroll": [], "out": [], "cut": [], "covered": [], "faint": []}
    assert page.problems == []


def test_dark_is_dark_and_print_is_light(page: Page, reports: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    page.open(reports / "one/report.html", dark=True)
    dark = page.evaluate(ground)
    page.open(reports / "one/report.html")
    light = page.evaluate(ground)

    assert (dark, light) == ("rgb(20, 23, 28)", "rgb(255, 255, 255)")
    assert page.print().startswith(b"%PDF-")


def test_the_keyboard_reaches_what_can_be_opened_and_scrolled(page: Page, reports: Path) -> None:
    page.open(reports / "three/report.html", width=375)

    unreachable = page.evaluate(
        "[...document.querySelectorAll('a, summary, .scroll')]"
        ".filter(one => one.tabIndex < 0).map(one => one.outerHTML)"
    )

    assert unreachable == []


def test_a_plot_of_its_own_follows_the_reader(page: Page, reports: Path) -> None:
    plot = reports / "three/plots/quality-memory.svg"
    fill = "getComputedStyle(document.querySelector('rect')).fill"
    page.open(plot)
    light = page.evaluate(fill)
    page.open(plot, dark=True)

    assert (light, page.evaluate(fill)) == ("rgb(255, 255, 255)", "rgb(20, 23, 28)")
    assert page.problems == []
