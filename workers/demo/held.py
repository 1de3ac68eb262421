"""What a stop of the tour says when it shows something else than it should."""

from __future__ import annotations


class NotHeld(Exception):
    """The message says what."""


def hold(condition: bool, otherwise: str) -> None:
    if not condition:
        raise NotHeld(otherwise)
