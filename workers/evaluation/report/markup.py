"""HTML and SVG from text that anyone may have written: whatever is not Markup is escaped."""

from __future__ import annotations

import unicodedata

# Overrides of the writing direction make a name read as another one.
_DIRECTIONS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def plain(text: str) -> str:
    """Without what no document may hold (control characters, lone surrogates) or what turns the text around it."""
    return "".join(
        " " if one in "\n\r\t" else "�" if one in _DIRECTIONS or unicodedata.category(one) in ("Cc", "Cs") else one
        for one in text
    )


def escape(text: str) -> Markup:
    if isinstance(text, Markup):
        return text
    safe = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return Markup(safe.replace('"', "&quot;").replace("'", "&#39;"))


def joined(*parts: str) -> Markup:
    return Markup("".join(map(escape, parts)))


def tag(name: str, *children: str, **attributes: str | float | bool | None) -> Markup:
    """One element. `class_` is `class`, `stroke_width` is `stroke-width`; None and False leave an attribute out, True
    writes its name alone, numbers are rounded to hundredths."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{_value(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Markup(f"<{name}{written}>{joined(*children)}</{name}>")


def _value(value: str | float) -> str:
    return escape(value) if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
