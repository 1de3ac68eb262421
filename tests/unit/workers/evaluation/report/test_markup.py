from __future__ import annotations

from html.parser import HTMLParser
from xml.etree import ElementTree

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from workers.evaluation.report.markup import Markup, escape, joined, tag


@example('"><script>"', '" onload="alert(1)')
@example("'<&>'", "'><b title='")
@given(st.text(max_size=40), st.text(max_size=40))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_text_stays_text(content: str, value: str) -> None:
    parsed = ElementTree.fromstring(tag("p", content, title=value))

    assert list(parsed) == []
    assert parsed.keys() == ["title"]
    assert "".join(one for one in parsed.text or "" if one.isalnum()) == "".join(
        one for one in content if one.isalnum()
    )


@given(st.text(max_size=60))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_text_begins_an_element_in_html(content: str) -> None:
    class Elements(HTMLParser):
        found = 0

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.found += 1

    parser = Elements()
    parser.feed(tag("p", content, title=content))
    assert parser.found == 1


def test_what_turns_the_text_around_it_is_shown_as_missing() -> None:
    assert escape("int8\u202egnp.exe\x00") == "int8�gnp.exe�"


def test_markup_is_not_escaped_again() -> None:
    assert joined(Markup("<b>"), "<b>") == "<b>&lt;b&gt;"


def test_attributes_are_left_out_or_rounded() -> None:
    assert tag("rect", class_="a", stroke_width=1.5, x=1 / 3, y=2.0, id=None, open=True, hidden=False) == (
        '<rect class="a" stroke-width="1.5" x="0.33" y="2" open></rect>'
    )
