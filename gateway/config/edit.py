"""Puts a key into the text of a tenants file and leaves every other character as it is, comments included.

Nothing is dumped: one line goes in where the parser says the tenant's keys end. The result is parsed again and must
be what was there and the key, or it is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, cast

import yaml

from gateway.config.document import quoted

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@-]*", re.ASCII)  # no quotes needed, whatever stands around it


class EditError(Exception):
    """The text cannot be edited as asked; the message says what to do instead."""


def key_line(entry: Mapping[str, Any]) -> str:
    """A key's entry in one line."""
    return flow(entry)


def insert_key(text: str, tenant: str, entry: Mapping[str, Any]) -> str:
    """The text with one more key for `tenant`, who must be in it."""
    try:
        root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
        edited = _insert(text, root, tenant, key_line(entry))
        wanted: Any = yaml.safe_load(text)
        owner: dict[str, Any] = wanted["tenants"][tenant] or {}
        wanted["tenants"][tenant] = owner | {"keys": [*(owner.get("keys") or []), dict(entry)]}
        right = bool(yaml.safe_load(edited) == wanted)
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        right, edited = False, ""
    if not right:
        raise EditError("it is written in a way that cannot be edited safely")
    return edited


def flow(value: Any) -> str:
    """A value in one line, in brackets and braces."""
    if isinstance(value, Mapping):
        pairs = cast(Mapping[str, Any], value).items()
        return f"{{{', '.join(f'{quoted(key)}: {flow(below)}' for key, below in pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(flow, cast(list[Any], value)))}]"
    return (
        quoted(value) if isinstance(value, str) and _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)
    )


def _insert(text: str, root: Any, tenant: str, line: str) -> str:
    name, spec = _entry(_entry(root, "tenants")[1], tenant)
    newline = "\r\n" if "\r\n" in text else "\n"
    if isinstance(spec, yaml.ScalarNode) and spec.value:  # `support: null`
        return text[: spec.start_mark.index] + f"{{keys: [{line}]}}" + text[spec.end_mark.index :]
    if isinstance(spec, yaml.ScalarNode):  # `support:` and nothing below it
        indent = " " * (name.start_mark.column + 2)
        return _below(text, name.end_mark.index, f"{indent}keys:{newline}{indent}  - {line}", newline)
    try:
        _, keys = _entry(spec, "keys")
    except KeyError:
        if spec.flow_style:
            rest = ", " if spec.value else ""
            return _at(text, spec.start_mark.index + 1, f"keys: [{line}]{rest}")
        indent = " " * spec.start_mark.column
        first_line = text.rfind("\n", 0, spec.start_mark.index) + 1
        return _at(text, first_line, f"{indent}keys:{newline}{indent}  - {line}{newline}")
    if isinstance(keys, yaml.ScalarNode):  # `keys: null`, or `keys:` and nothing after it
        space = "" if keys.value else " "
        return text[: keys.start_mark.index] + f"{space}[{line}]" + text[keys.end_mark.index :]
    if not keys.flow_style:
        return _below(text, _end(keys), f"{' ' * keys.start_mark.column}- {line}", newline)
    if keys.value:
        return _at(text, _end(keys.value[-1]), f", {line}")
    return _at(text, keys.start_mark.index + 1, line)


def _entry(mapping: Any, key: str) -> tuple[Any, Any]:
    for key_node, value_node in mapping.value:
        if key_node.value == key:
            return key_node, value_node
    raise KeyError(key)


def _end(node: Any) -> int:
    """Where a value's own text ends; a block's end mark lies behind the comments that follow it."""
    if isinstance(node, yaml.ScalarNode) or node.flow_style:
        return node.end_mark.index
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)


def _at(text: str, index: int, addition: str) -> str:
    return text[:index] + addition + text[index:]


def _below(text: str, index: int, addition: str, newline: str) -> str:
    """A new line under the one that holds `index`."""
    end = text.find("\n", index)
    if end < 0:
        return text + newline + addition + newline
    return _at(text, end + 1, addition + newline)
