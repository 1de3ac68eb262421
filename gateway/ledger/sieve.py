"""Finds the rows a database refuses among those it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Row = TypeVar("Row")


def sift(
    rows: Sequence[Row], add: Callable[[Sequence[Row]], int], bad: tuple[type[Exception], ...]
) -> tuple[int, list[tuple[Row, str]]]:
    """Adds `rows` with as few calls of `add` as it takes: all at once, and by halves where that raises one of `bad`.

    `add` must add all or none. Returns the sum of what it gave, and the rows it refused alone, with the reason.
    """
    if not rows:
        return 0, []
    try:
        return add(rows), []
    except bad as error:
        if len(rows) == 1:
            return 0, [(rows[0], f"{type(error).__name__}: {error}".strip())]
    middle = len(rows) // 2
    added, refused = sift(rows[:middle], add, bad)
    more, others = sift(rows[middle:], add, bad)
    return added + more, refused + others
