"""How wide what is explained is printed."""

from __future__ import annotations

import pytest

from gateway.cli.explain_text import show
from gateway.routing.types import Dropped
from tests.unit.gateway.test_decision import kept, planned, step


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    found = kept(planned(step(), step(), dropped=(Dropped("w1", "chat@a", "down"),)))
    show(found, width)
    lines = capsys.readouterr().out.splitlines()
    tables = [line for line in lines if any(word in line for word in ("prefill", "asked after", "│", "─", "┃", "━"))]
    assert tables
    assert max(map(len, tables)) <= width
    text = " ".join(" ".join(lines).split())
    for word in ("w0", "chat@a", "prefill", "answered", "28.00"):
        assert word in text


def test_a_pipe_has_no_width(capsys: pytest.CaptureFixture[str]) -> None:
    show(kept(planned(step())))
    assert any("prefill" in line and "in all ms" in line for line in capsys.readouterr().out.splitlines())
