"""The text of one YAML file, read into nodes that know their line.

Composed here from the parser's events, not by a ready loader, for three reasons: every value keeps its line; size,
depth and aliases stay bounded whatever the file holds; and what YAML readers disagree on is refused, not guessed.
Words without quotes are read as in YAML 1.2, so nothing but `true` and `false` is a boolean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml
from yaml import events

MAX_DEPTH = 20
MAX_NODES = 100_000

_parse: Any = yaml.parse  # pyright: ignore[reportUnknownMemberType]
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where the wheel has it: ten times as fast

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_TRUE = frozenset(("true", "True", "TRUE"))
_FALSE = frozenset(("false", "False", "FALSE"))
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]{0,24})", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:[0-9]{1,25}(?:\.[0-9]{0,25})?|\.[0-9]{1,25})(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)
_SPECIAL_FLOAT = re.compile(r"[-+]?\.(?:inf|nan)", re.ASCII | re.IGNORECASE)
_DISPUTED_BOOL = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_DISPUTED_NUMBER = re.compile(
    r"[-+]?(?:0[0-9_]+|0[xob][0-9a-fA-F_]+"  # octal, or not; hexadecimal, or not
    r"|[0-9_]+(?::[0-5]?[0-9])+"  # to the base of 60, or a time
    r"|[0-9]+[eE][-+]?[0-9]{4,}|[0-9_]{26,}(?:[eE][-+]?[0-9]+)?)",  # a number out of all bounds, or a digest
    re.ASCII,
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?", re.ASCII)
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")

Scalar = str | int | float | bool | None


class Trouble(NamedTuple):
    line: int
    wrong: str
    remedy: str


class DocumentError(Exception):
    """The file cannot be read any further."""

    def __init__(self, line: int, wrong: str, remedy: str) -> None:
        super().__init__(f"line {line}: {wrong}: {remedy}")
        self.trouble = Trouble(line, wrong, remedy)


@dataclass(slots=True)
class Node:
    """A scalar, a list of nodes or a mapping. `entries` gives each key's own line."""

    line: int
    scalar: Scalar = None
    written: str = ""  # a scalar's own text: `1.10` is a number that lost its zero
    items: list[Node] | None = None
    entries: dict[str, tuple[int, Node]] | None = None
    disputed: bool = False  # YAML readers disagree on what it is; said in the document's troubles


@dataclass(slots=True)
class Document:
    root: Node
    troubles: list[Trouble] = field(default_factory=list[Trouble])


def read_document(text: str, loader: Any = LOADER) -> Document:
    """Raises DocumentError where the text cannot be understood; lesser things are in `troubles`."""
    if found := _UNPRINTABLE.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise DocumentError(line, f"{found[0]!r} cannot stand in YAML", "delete it, and save the file as UTF-8")
    try:
        return _Composer(_parse(text, Loader=loader)).document()
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text) from None
    except yaml.YAMLError as error:
        raise DocumentError(1, f"this is not YAML ({error})", "save the file as UTF-8 text") from None


class _Composer:
    def __init__(self, stream: Iterator[Any]) -> None:
        self._stream = stream
        self._anchors: dict[str | None, Node | None] = {}
        self._troubles: list[Trouble] = []
        self._count = 0

    def document(self) -> Document:
        root = Node(1, entries={})
        for event in self._stream:
            if isinstance(event, events.DocumentStartEvent):
                if self._count:
                    raise DocumentError(
                        _line(event), "a second document (`---`) begins", "put it into a file of its own"
                    )
                root = self._node(next(self._stream), 0)
        return Document(root, self._troubles)

    def _node(self, event: Any, depth: int) -> Node:
        line = _line(event)
        self._count += 1
        if depth > MAX_DEPTH:
            raise DocumentError(line, f"nested more than {MAX_DEPTH} deep", "flatten it; nothing here nests that far")
        if self._count > MAX_NODES:
            raise DocumentError(line, f"more than {MAX_NODES} values", "split what this fleet needs, or drop the rest")
        if isinstance(event, events.AliasEvent):
            node = self._anchors.get(event.anchor)
            if node is None:
                raise DocumentError(
                    line, f"`*{event.anchor}` names no finished anchor", f"write `&{event.anchor}` at a value above"
                )
            return node
        if event.tag is not None and event.tag != "!":
            raise DocumentError(line, f"the tag `{event.tag}` is not read", "delete it; quote what is to be text")
        if event.anchor is not None:
            self._anchors[event.anchor] = None  # until it is finished: a value cannot hold itself
        if isinstance(event, events.ScalarEvent):
            node = self._scalar(event, line)
        elif isinstance(event, events.SequenceStartEvent):
            node = Node(line, items=[self._node(item, depth + 1) for item in self._until(events.SequenceEndEvent)])
        else:
            node = Node(line, entries=self._entries(depth))
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _until(self, end: type) -> Iterator[Any]:
        for event in self._stream:
            if isinstance(event, end):
                return
            yield event

    def _entries(self, depth: int) -> dict[str, tuple[int, Node]]:
        entries: dict[str, tuple[int, Node]] = {}
        for event in self._until(events.MappingEndEvent):
            line = _line(event)
            key = self._key(event, line)
            value = self._node(next(self._stream), depth + 1)
            if key in entries:
                first = entries[key][0]
                self._troubles.append(
                    Trouble(line, f"the key `{key}` is here twice (first in line {first})", "keep one of them")
                )
            else:
                entries[key] = (line, value)
        return entries

    def _key(self, event: Any, line: int) -> str:
        if not isinstance(event, events.ScalarEvent):
            raise DocumentError(
                line, "this key is not plain text", "write `key: value`, and quote what begins with { or ["
            )
        node = self._node(event, 0)
        key = event.value
        if key == "<<" and event.implicit[0]:
            raise DocumentError(line, "merge keys (`<<`) are not read", "repeat the keys, or alias the whole: `*name`")
        if not isinstance(node.scalar, str) and not node.disputed:
            self._troubles.append(
                Trouble(line, f"the key `{key}` is {describe(node.scalar)}, not text", f'quote it: `"{key}":`')
            )
        return key

    def _scalar(self, event: events.ScalarEvent, line: int) -> Node:
        text: str = event.value
        if found := _UNPRINTABLE.search(text):  # by an escape, as "\x00"
            raise DocumentError(line, f"the text holds {found[0]!r}", "delete it: no name, path or address has it")
        if not event.implicit[0]:  # in quotes, or a block of text
            return Node(line, text, text)
        dispute = _dispute(text)
        if dispute is not None:
            self._troubles.append(Trouble(line, *dispute))
        return Node(line, resolve_plain(text), text, disputed=dispute is not None)


def resolve_plain(text: str) -> Scalar:
    """What a word without quotes is."""
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if _INT.fullmatch(text):
        return int(text.replace("_", ""))  # YAML allows them anywhere, Python only between digits
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL_FLOAT.fullmatch(text):
        return float(text.lower().replace(".", ""))
    return text


def quoted(text: str) -> str:
    """Text as it is safe to write in YAML: in quotes where it could be read as something else. For names only."""
    return text if isinstance(resolve_plain(text), str) and _dispute(text) is None else f'"{text}"'


def _dispute(text: str) -> tuple[str, str] | None:
    """What YAML readers disagree on in a word without quotes, and how to make them agree."""
    if meant := _DISPUTED_BOOL.get(text.lower()):
        wrong = f"`{text}` is a boolean to some YAML readers and a word to others"
        return wrong, f'write `{meant}` for the boolean, `"{text}"` for the word'
    if _DISPUTED_NUMBER.fullmatch(text) or _DATE.fullmatch(text):
        wrong = f"`{text}` is a number or a date to some YAML readers and text to others"
        return wrong, f'write `"{text}"` for the text, or a plain decimal number'
    return None


def describe(value: object) -> str:
    """A value's kind, as one says it to a person."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "a mapping"


def _line(event: Any) -> int:
    return event.start_mark.line + 1


def _syntax_error(error: yaml.MarkedYAMLError, text: str) -> DocumentError:
    mark = error.problem_mark or error.context_mark
    lines = text.splitlines() or [""]
    number = min(mark.line + 1 if mark else 1, len(lines))
    line = lines[number - 1]
    remedy = "look at the quotes, brackets and indentation of this line and the one above"
    if "\t" in line[: len(line) - len(line.lstrip())]:
        remedy = "indent with spaces, not tabs"
    elif "${" in line:
        remedy = 'inside { } or [ ] put a secret in quotes: "${env:NAME}"'
    elif "mapping values are not allowed" in str(error.problem):
        remedy = "quote a value that holds a colon and a space, or mend the indentation"
    wrong = f"this is not YAML ({error.problem or error.context}"
    if error.problem and error.context_mark and error.context_mark.line + 1 < number:
        wrong += f", {error.context} that begins in line {error.context_mark.line + 1}"
    return DocumentError(number, wrong + ")", remedy)
