from __future__ import annotations

import pytest

from workers.quantization.progress import QUIET, followed, lines, progress


def test_a_log_has_a_line_at_the_beginning_at_the_end_and_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    report = lines(lambda: now[0])
    for step in range(11):
        report("layers", step, 10)
        now[0] += QUIET / 4

    said = capsys.readouterr().err.splitlines()

    assert said == ["layers: 0 of 10", "layers: 4 of 10", "layers: 8 of 10", "layers: 10 of 10"]


def test_items_are_reported_when_they_are_done() -> None:
    said: list[tuple[str, int, int]] = []

    assert list(followed("ab", lambda *state: said.append(state), "layers", of=5, done=3)) == ["a", "b"]
    assert said == [("layers", 3, 5), ("layers", 4, 5), ("layers", 5, 5)]


def test_a_terminal_has_bars_and_a_log_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    for terminal in (True, False):
        with progress(terminal) as report:
            report("layers", 1, 2)
            report("layers", 2, 2)

    said = capsys.readouterr().err
    assert "━" in said
    assert said.endswith("layers: 1 of 2\nlayers: 2 of 2\n")
