"""Named tuples of the hot path, made without their class's own `__new__`: that one is Python's, compiled or not, and
takes half as long again. A request makes five."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

Made = TypeVar("Made", bound=tuple[object, ...])

_new: Final = cast("Callable[..., Any]", tuple.__new__)  # pyright: ignore[reportUnknownMemberType]


def made(kind: type[Made], values: tuple[object, ...]) -> Made:
    """`kind(*values)`, for as many values as it has fields: nothing here counts them."""
    made: Made = _new(kind, values)
    return made
