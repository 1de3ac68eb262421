"""Named tuples of the hot path, made without their class's own `__new__`: that one is Python's, compiled or not, and
takes half as long again. A request makes five."""

from __future__ import annotations

from typing import TypeVar

Made = TypeVar("Made", bound=tuple[object, ...])


def made(kind: type[Made], values: tuple[object, ...]) -> Made:
    """`kind(*values)`, for as many values as it has fields: nothing here counts them."""
    return tuple.__new__(kind, values)  # pyright: ignore[reportUnknownMemberType]
