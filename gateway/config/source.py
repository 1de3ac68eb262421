"""The only reader of the configuration directory: its `*.yaml` files merged by top-level key, every value placed.

Lists (`routes`, `workers`) of several files are joined in the order of the file names; mappings (`models`, `tenants`)
are joined by name; anything else may stand in one file only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from gateway.config.document import MAX_DEPTH, MAX_NODES, DocumentError, Node, read_document
from gateway.config.problems import Findings, Place
from gateway.config.units import UnitError, resolve_env

MAX_FILES = 64
MAX_FILE_BYTES = 1024 * 1024

KeyPath = tuple[str | int, ...]

# What of the files the watcher compares: name, modification and change time, size and inode of each.
Fingerprint = tuple[tuple[str, int, int, int, int], ...]


@dataclass(slots=True)
class Source:
    """What was written: plain data, and beside it the place and the raw text of every value."""

    directory: Path
    data: dict[str, Any] = field(default_factory=dict[str, Any])
    mentioned: dict[str, Place] = field(default_factory=dict[str, Place])  # top-level keys, those without a value too
    places: dict[KeyPath, Place] = field(default_factory=dict[KeyPath, Place])
    secret: dict[KeyPath, str] = field(default_factory=dict[KeyPath, str])  # the text of values that hold ${env:…}
    written: dict[KeyPath, str] = field(default_factory=dict[KeyPath, str])  # the text of values that are not text
    doubted: set[KeyPath] = field(default_factory=set[KeyPath])  # values already complained about
    findings: Findings = field(default_factory=Findings)
    unread: bool = False  # a file could not be read, so names may be missing
    revision: str = ""

    def place(self, *path: str | int) -> Place:
        """Where a value is written, or the nearest thing around it."""
        for end in range(len(path), 0, -1):
            if found := self.places.get(path[:end]):
                return found
        return Place(str(self.directory), 1)


def names(directory: Path) -> list[Path]:
    """The files that count: `*.yaml`, not hidden ones (an editor's, or one being written)."""
    return sorted(path for path in directory.glob("*.yaml") if not path.name.startswith("."))


def fingerprint(directory: Path) -> Fingerprint:
    """Changes whenever a file of the directory does, links to other files included. Cheap: no file is opened."""
    seen: list[tuple[str, int, int, int, int]] = []
    for path in names(directory):
        try:
            stat = path.stat()
        except OSError:  # deleted between the listing and here, or a link to nothing
            seen.append((path.name, 0, 0, -1, 0))
        else:
            seen.append((path.name, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino))
    return tuple(seen)


def read(directory: Path, environ: Mapping[str, str], instead: Mapping[Path, bytes] | None = None) -> Source:
    """Never raises for what a directory holds: what is wrong with it is in `findings`. `instead` stands in for what
    files of it hold, or for files that are not there yet."""
    source = Source(directory)
    here = Place(str(directory), 1)
    if not directory.is_dir():
        source.findings.error(here, "there is no such directory", "name the one that holds the YAML, `--config DIR`")
        source.unread = True
        return source
    planned = {path: content for path, content in (instead or {}).items() if path.parent == directory}
    files = sorted({*names(directory), *planned})
    if not files:
        source.findings.error(here, "no *.yaml file in it", "write one: an empty gateway.yaml is a beginning")
        source.unread = True
    for other in sorted(directory.glob("*.yml")):
        source.findings.warn(Place(str(other), 1), "only *.yaml is read, this file is not", "rename it to end in .yaml")
    if len(files) > MAX_FILES:
        source.findings.error(here, f"{len(files)} files, at most {MAX_FILES} are read", "join some of them")
        source.unread = True
    digest = hashlib.sha256()
    merge = _Merge(source, environ)
    for path in files[:MAX_FILES]:
        content = planned[path] if path in planned else _content(path, source)
        digest.update(f"{path.name}\0{len(content)}\0".encode() + content)
        merge.file(str(path), content)
    source.revision = digest.hexdigest()[:12]
    return source


def _content(path: Path, source: Source) -> bytes:
    place = Place(str(path), 1)
    try:
        if not path.is_file():
            raise OSError("it is not a file")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        source.findings.error(place, f"cannot be read ({error.strerror or error})", "let the gateway's user read it")
        source.unread = True
        return b""
    if len(content) > MAX_FILE_BYTES:
        source.findings.error(place, f"larger than {MAX_FILE_BYTES // 1024} KB", "split it into several *.yaml files")
        source.unread = True
        return b""
    return content


class _Merge:
    """Adds files to the source, one after the other."""

    def __init__(self, source: Source, environ: Mapping[str, str]) -> None:
        self._source = source
        self._environ = environ
        self._file = ""
        self._budget = MAX_NODES  # an alias is counted each time it is used, so aliases of aliases stay bounded

    def file(self, name: str, content: bytes) -> None:
        self._file = name
        findings = self._source.findings
        try:
            document = read_document(_decode(content))
            for trouble in document.troubles:
                findings.error(Place(self._file, trouble.line), trouble.wrong, trouble.remedy)
            for key, (line, node) in _sections(document.root).items():
                self._section(key, line, node)
        except DocumentError as error:
            line, wrong, remedy = error.trouble
            findings.error(Place(self._file, line), wrong, remedy)
            self._source.unread = True

    def _section(self, key: str, line: int, node: Node) -> None:
        """A top-level key: joined with what earlier files say under it."""
        source = self._source
        place = Place(self._file, line)
        source.mentioned.setdefault(key, place)
        if node.scalar is None and node.items is None and node.entries is None:
            return  # `workers:` with nothing below says nothing
        if key not in source.data:
            source.places[key,] = place
            source.data[key] = self._value((key,), node, line, 0)
            return
        present: Any = source.data[key]
        if isinstance(present, list) and node.items is not None:
            items = cast(list[Any], present)
            for item in node.items:
                path = (key, len(items))
                items.append(self._value(path, item, item.line, 1))
        elif isinstance(present, dict) and node.entries is not None and key in NAMED:
            entries = cast(dict[str, Any], present)
            for name, (name_line, value) in node.entries.items():
                if name in entries:
                    first = source.place(key, name)
                    wrong = f"`{name}` is already in `{key}` at {first}"
                    source.findings.error(Place(self._file, name_line), wrong, "rename one of them, or delete it")
                else:
                    entries[name] = self._value((key, name), value, name_line, 1)
        else:
            wrong = f"`{key}` is already written at {source.place(key)}"
            source.findings.error(place, wrong, "keep it in one file")

    def _value(self, path: KeyPath, node: Node, line: int, depth: int) -> Any:
        source = self._source
        self._budget -= 1
        if self._budget < 0 or depth > MAX_DEPTH:
            raise DocumentError(line, f"more than {MAX_NODES} values, aliases counted out", "use fewer aliases")
        source.places[path] = Place(self._file, line)
        if node.disputed:
            source.doubted.add(path)
        if node.entries is not None:
            return {
                key: self._value((*path, key), value, key_line, depth + 1)
                for key, (key_line, value) in node.entries.items()
            }
        if node.items is not None:
            return [self._value((*path, i), item, item.line, depth + 1) for i, item in enumerate(node.items)]
        if isinstance(node.scalar, str) and ("${" in node.scalar or node.scalar.startswith("os.environ/")):
            return self._secret(path, node.scalar, line)
        if not isinstance(node.scalar, str):
            source.written[path] = node.written
        return node.scalar

    def _secret(self, path: KeyPath, written: str, line: int) -> str:
        self._source.secret[path] = written
        try:
            return resolve_env(written, self._environ)
        except UnitError as error:
            self._source.findings.error(Place(self._file, line), error.wrong, error.remedy)
            self._source.doubted.add(path)
            return written


# The mappings whose entries are named by their author; every other mapping is one thing and stands in one file.
NAMED = frozenset(("models", "aliases", "gpus", "tenants"))


def _sections(root: Node) -> dict[str, tuple[int, Node]]:
    if root.entries is not None:
        return root.entries
    if root.scalar is None and root.items is None:
        return {}  # only comments
    raise DocumentError(root.line, "the file is not a mapping", "begin with a top-level key such as `workers:`")


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        wrong = f"the byte 0x{content[error.start]:02x} is not UTF-8"
        raise DocumentError(line, wrong, "save the file as UTF-8") from None
