"""Puts an entry of a mapping into the text of a YAML file and leaves every other character as it is, comments included.

Nothing is dumped: what differs is replaced where the parser says it stands, what is new goes in as the entries around
it are written. The result is read again and must be what was there and the entry, or it is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, cast

import yaml
from yaml.nodes import MappingNode, ScalarNode

from gateway.config.document import DocumentError, quoted, read_document, resolve_plain
from gateway.config.document import Node as Read
from gateway.config.edit import EditError, flow

_MAX_EDITS = 64

Entry = Mapping[str, Any]


def put(text: str, path: Sequence[str], entry: Entry) -> str:
    """The text with `entry` at `path`: the keys it has are set to what it says, or deleted where that is None; others
    stay. Mappings on the way that are not there are made. Raises EditError where that cannot be done safely."""
    wanted = _merged(_read(text), path, entry)
    edited = text
    for _ in range(_MAX_EDITS):  # one change at a time: each is looked for in the text that the last one left
        change = _next_change(edited, path, entry)
        if change is None:
            break
        start, end, replacement = change
        edited = edited[:start] + replacement + edited[end:]
    if _read(edited) != wanted:
        raise EditError("it is written in a way that cannot be edited safely")
    return edited


def _merged(data: Any, path: Sequence[str], entry: Entry) -> dict[str, Any]:
    root: dict[str, Any] = copy.deepcopy(data) or {}
    below = root
    for step in path:
        found = below.get(step)
        if found is not None and not isinstance(found, dict):
            raise EditError(f"`{step}` is not a mapping there")
        below[step] = below = cast("dict[str, Any]", found) or {}
    for key, value in entry.items():
        if value is None:
            below.pop(key, None)
        else:
            below[key] = value
    return root


def _read(text: str) -> Any:
    """What the gateway takes the text for; every value a copy of its own, also where two stand for the same."""
    try:
        document = read_document(text)
    except DocumentError as error:
        raise EditError(f"it cannot be read: {error}") from None
    if document.troubles:
        raise EditError(f"it cannot be read: line {document.troubles[0].line}: {document.troubles[0].wrong}")
    return _plain(document.root)


def _plain(node: Read) -> Any:
    if node.entries is not None:
        return {key: _plain(value) for key, (_, value) in node.entries.items()}
    if node.items is not None:
        return [_plain(item) for item in node.items]
    return node.scalar


class _Alias(ScalarNode):
    """`*name` as it stands in the text, with what it stands for."""

    target: Any = None


class _Composer(yaml.SafeLoader):
    """Keeps the places of aliases, which PyYAML replaces by what they stand for."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if not self.check_event(yaml.AliasEvent):
            return super().compose_node(parent, index)
        event: Any = cast("Any", self).peek_event()
        alias = _Alias("", "*", event.start_mark, event.end_mark)
        alias.target = super().compose_node(parent, index)
        return alias


def _compose(text: str) -> Any:
    loader: Any = _Composer(text)
    try:
        return loader.get_single_node()
    except (yaml.YAMLError, RecursionError) as error:
        raise EditError(f"it cannot be read: {error}") from None
    finally:
        loader.dispose()


Change = tuple[int, int, str]


def _next_change(text: str, path: Sequence[str], entry: Entry) -> Change | None:
    """The first thing that is not yet as it should be: what to put in the place of which characters."""
    node = _compose(text)
    newline = "\r\n" if "\r\n" in text else "\n"
    writer = _Writer(text, newline)
    if node is None:
        return writer.at_end("", _nested(path, entry))
    parent_column = 0
    for at, step in enumerate(path):
        if isinstance(node, _Alias):
            return writer.replaced(node, _merged(_value(node.target), path[at:], entry))
        if not isinstance(node, MappingNode):
            return writer.filled(node, parent_column, _nested(path[at:], entry))
        found = _find(node, step)
        if found is None:
            return writer.added(node, step, _nested(path[at + 1 :], entry))
        key, node = found
        parent_column = key.start_mark.column
    if isinstance(node, _Alias):
        return writer.replaced(node, _merged(_value(node.target), (), entry))
    if not isinstance(node, MappingNode):
        return writer.filled(node, parent_column, _kept(entry))
    return _next_within(writer, node, entry)


def _next_within(writer: _Writer, mapping: Any, entry: Entry) -> Change | None:
    for key, value in entry.items():
        found = _find(mapping, key)
        if value is None:
            if found is not None:
                return writer.removed(mapping, found[0])
        elif found is None:
            return writer.added(mapping, key, value)
        elif _value(found[1]) != value:
            if isinstance(value, dict) and value and isinstance(found[1], MappingNode) and found[1].value:
                gone = [name.value for name, _ in found[1].value if name.value not in value]
                return _next_within(writer, found[1], {**cast("Entry", value), **dict.fromkeys(gone)})
            return writer.replaced(found[1], value)
    return None


def _kept(entry: Entry) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if value is not None}


def _nested(path: Sequence[str], entry: Entry) -> dict[str, Any]:
    made = _kept(entry)
    for step in reversed(path):
        made = {step: made}
    return made


def _find(mapping: Any, key: str) -> tuple[Any, Any] | None:
    return next(((name, value) for name, value in mapping.value if name.value == key), None)


def _value(node: Any) -> Any:
    """What a node stands for, read as the gateway does."""
    if isinstance(node, _Alias):
        return _value(node.target)
    if isinstance(node, MappingNode):
        return {key.value: _value(value) for key, value in cast("list[tuple[Any, Any]]", node.value)}
    if isinstance(node, ScalarNode):
        return resolve_plain(node.value) if node.style is None else node.value
    return [_value(item) for item in node.value]


class _Writer:
    """Says a change of `text` in the style of what is around it."""

    def __init__(self, text: str, newline: str) -> None:
        self._text = text
        self._newline = newline

    def replaced(self, node: Any, value: Any) -> Change:
        """Another value in the place of one; what was said beside it stays."""
        start, end = node.start_mark.index, _end(node)
        space = "" if start == 0 or self._text[start - 1] in " \t\n[{," else " "
        return start, end, space + flow(value)

    def filled(self, node: Any, column: int, value: Any) -> Change:
        """A value for a key that has none, `versions:` or `versions: null`."""
        if not isinstance(node, ScalarNode) or _value(node) is not None:
            raise EditError("it is written in a way that cannot be edited safely")
        if node.value:
            return self.replaced(node, value)
        line = self._text.rfind("\n", 0, node.start_mark.index) + 1
        if self._text[line : line + column].strip():  # inside braces
            return self.replaced(node, value)
        return self._below(node.start_mark.index, self._block(value, column + 2))

    def added(self, mapping: Any, key: str, value: Any) -> Change:
        """One more key at the end of a mapping."""
        if mapping.flow_style:
            pair = f"{quoted(key)}: {flow(value)}"
            if mapping.value:
                return self._insert(_end(mapping.value[-1][1]), f", {pair}")
            return self._insert(self._text.index("{", mapping.start_mark.index) + 1, pair)
        last_key, last = mapping.value[-1]
        addition = self._block({key: value}, mapping.value[0][0].start_mark.column)
        end = max(_end(last), last_key.end_mark.index)
        if isinstance(last, ScalarNode) and last.style in ("|", ">"):  # it ends where the next line begins
            return self._insert(end, addition)
        return self._below(end, addition)

    def removed(self, mapping: Any, key: Any) -> Change:
        """A key and its value go, with the lines that only they stood in."""
        pairs = cast("list[tuple[Any, Any]]", mapping.value)
        at = next(index for index, pair in enumerate(pairs) if pair[0] is key)
        start, end = key.start_mark.index, max(_end(pairs[at][1]), key.end_mark.index)
        if mapping.flow_style:
            if at > 0:
                return max(_end(pairs[at - 1][1]), pairs[at - 1][0].end_mark.index), end, ""
            return start, pairs[1][0].start_mark.index if len(pairs) > 1 else end, ""
        line = self._text.rfind("\n", 0, start) + 1
        if self._text[line:start].strip():
            raise EditError("it is written in a way that cannot be edited safely")
        after = self._text.find("\n", end)
        return line, len(self._text) if after < 0 else after + 1, ""

    def at_end(self, indent: str, value: Any) -> Change:
        """Below everything: the file has comments at most."""
        gap = "" if not self._text or self._text.endswith("\n") else self._newline
        return len(self._text), len(self._text), gap + self._block(value, len(indent))

    def _block(self, value: Any, column: int) -> str:
        """A mapping in lines of its own; what is in its entries' entries stands in braces."""
        lines: list[str] = []
        for key, below in cast("dict[str, Any]", value).items():
            head = f"{' ' * column}{quoted(key)}:"
            if isinstance(below, dict) and below and _is_wide(cast("dict[str, Any]", below)):
                lines.append(head + self._newline + self._block(below, column + 2))
            else:
                lines.append(f"{head} {flow(below)}{self._newline}")
        return "".join(lines)

    def _insert(self, index: int, addition: str) -> Change:
        return index, index, addition

    def _below(self, index: int, addition: str) -> Change:
        """New lines under the one that holds `index`."""
        end = self._text.find("\n", index)
        if end < 0:
            return self._insert(len(self._text), self._newline + addition)
        return self._insert(end + 1, addition)


def _is_wide(value: dict[str, Any]) -> bool:
    return len(flow(value)) > 80 or any(isinstance(below, dict) for below in value.values())


def _end(node: Any) -> int:
    """Where a value's own text ends; a block's end mark lies behind the comments that follow it."""
    if isinstance(node, ScalarNode) or node.flow_style:
        return node.end_mark.index
    last: Any = node.value[-1]
    if isinstance(last, tuple):  # where its value is empty, a key ends with its colon
        key, value = cast("tuple[Any, Any]", last)
        return max(_end(value), key.end_mark.index)
    return _end(last)
