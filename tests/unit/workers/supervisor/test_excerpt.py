"""What explains an engine's death."""

from __future__ import annotations

import pytest

from workers.supervisor.excerpt import last_words

TRACE = [f"  File {number}" for number in range(30)]


def test_a_short_log_is_told_whole() -> None:
    assert last_words("started\nValueError: no weights\nended") == ["started", "ValueError: no weights", "ended"]


def test_of_a_long_log_the_end() -> None:
    assert last_words("\n".join(TRACE), lines=3) == TRACE[-3:]


@pytest.mark.parametrize(
    "cause",
    [
        "ValueError: no weights",
        "torch.cuda.OutOfMemoryError: CUDA out of memory",
        "(Worker pid=5830) ERROR 11-21 08:08:21 [executor.py:953] AttributeError: 'NoneType' object has no …",
    ],
)
def test_the_first_error_leads_when_later_ones_bury_it(cause: str) -> None:
    log = ["started", cause, *TRACE, "RuntimeError: engine core failed, see above", "ended"]
    assert last_words("\n".join(log), lines=4) == [cause, "…", *log[-2:]]


def test_an_error_among_the_last_lines_is_not_repeated() -> None:
    log = [*TRACE, "ValueError: no weights", "ended"]
    assert last_words("\n".join(log), lines=3) == log[-3:]


@pytest.mark.parametrize(
    "line", ["WARNING this can cause errors like `OSError: too many files`", "no Error here", "KeyError:", "Errors: 3"]
)
def test_what_is_not_the_cause(line: str) -> None:
    assert last_words("\n".join([line, *TRACE]), lines=3) == TRACE[-3:]


def test_nothing_was_said() -> None:
    assert last_words("") == []
