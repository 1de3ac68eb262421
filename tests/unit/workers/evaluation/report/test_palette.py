from __future__ import annotations

import pytest

from workers.evaluation.report.palette import DARK, LIGHT, VERSIONS, contrast

TONES = ("ink", "muted", "ref", "pass", "fail", "open", *(f"c{one}" for one in range(VERSIONS)))


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("tone", TONES)
def test_text_in_every_colour_can_be_read_on_every_ground(colours: dict[str, str], tone: str) -> None:
    assert contrast(colours[tone], colours["ground"]) >= 4.5
    assert contrast(colours[tone], colours["raised"]) >= 4.5


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("state", ["pass", "fail", "open"])
def test_verdicts_can_be_read_on_their_own_ground(colours: dict[str, str], state: str) -> None:
    assert contrast(colours[state], colours[f"{state}-ground"]) >= 4.5


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
