"""The held-out text that models are compared on: what comes with Python, or a user's own files, cut into pieces."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, cast

from workers.demo.corpus import standard_library_sources
from workers.errors import WrongUsage
from workers.reading import content

BUILT_IN = "held-out modules of the Python standard library"
SUFFIXES = frozenset({".txt", ".md", ".py", ".jsonl"})
FIELDS = ("text", "content", "prompt", "completion")  # of a JSONL row
SEPARATOR = "\n\n"
LARGEST_FILE = 256 << 20  # bytes
CHARACTERS_PER_TOKEN = 10  # cut generously: what a tokenizer makes less of is cut again


@dataclass(frozen=True, slots=True)
class Text:
    """Documents in a fixed order. `sha256` is over all of them, whatever is cut out of them."""

    name: str
    documents: tuple[str, ...]

    @property
    def sha256(self) -> str:
        total = hashlib.sha256()
        for document in self.documents:
            total.update(hashlib.sha256(document.encode("utf-8", "surrogatepass")).digest())
        return total.hexdigest()

    def pieces(self, tokens: int, seed: int) -> Iterator[str]:
        """Pieces that are long enough for so many tokens, in an order that the seed chooses; each comes once."""
        length = tokens * CHARACTERS_PER_TOKEN
        starts = [(i, at) for i, document in enumerate(self.documents) for at in range(0, len(document), length)]
        Random(seed).shuffle(starts)
        for i, at in starts:
            yield self.documents[i][at : at + length]

    def long_pieces(self, tokens: int, seed: int) -> Iterator[str]:
        """The same where one document may be too short for it: of all documents, one after another. A piece may begin
        in the middle of another."""
        length = tokens * CHARACTERS_PER_TOKEN
        whole = SEPARATOR.join(self.documents)
        starts = list(range(0, max(1, len(whole) - length // 2), max(1, length // 2)))
        Random(seed).shuffle(starts)
        for at in starts:
            yield whole[at : at + length]


def built_in() -> Text:
    """Modules that no demo model was trained on and no calibration saw; of the demo's models, that is."""
    return Text(BUILT_IN, tuple(source.text for source in standard_library_sources() if source.is_held_out))


def read(path: Path) -> Text:
    """A text file, a JSONL file with one document per row, or a directory of such files. Raises WrongUsage."""
    if not path.exists():
        raise WrongUsage(f"--text {path}: there is no such file or directory")
    files = sorted(one for one in path.rglob("*") if one.suffix in SUFFIXES and one.is_file()) if path.is_dir() else []
    if path.is_dir() and not files:
        raise WrongUsage(f"--text {path}: the directory has none of: {', '.join(sorted(SUFFIXES))}")
    documents = [document for file in files or [path] for document in _documents(file) if document.strip()]
    if not documents:
        raise WrongUsage(f"--text {path}: it has no text")
    return Text(str(path), tuple(documents))


def _documents(file: Path) -> Sequence[str]:
    try:
        text = io.TextIOWrapper(io.BytesIO(content(file, LARGEST_FILE)), "utf-8").read()
    except UnicodeDecodeError as error:
        raise WrongUsage(f"--text {file} is not UTF-8 at byte {error.start}; convert it first") from None
    except OSError as error:
        raise WrongUsage(f"--text {file} cannot be read: {error.strerror}; name another, or a part of it") from None
    if file.suffix != ".jsonl":
        return [text]
    return [_row(file, number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _row(file: Path, number: int, line: str) -> str:
    """The text of a row: a string, a text field of an object, or the contents of its `messages`."""
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WrongUsage(f"--text {file}: line {number} is not JSON: {error}") from None
    if isinstance(row, str):
        return row
    if isinstance(row, dict):
        found = cast("dict[str, Any]", row)
        for field in FIELDS:
            if isinstance(found.get(field), str):
                return found[field]
        messages: Any = found.get("messages")
        if isinstance(messages, list):
            contents = [cast("dict[str, Any]", one).get("content") for one in messages if isinstance(one, dict)]  # pyright: ignore[reportUnknownVariableType]
            if contents:
                return "\n".join(content for content in contents if isinstance(content, str))
    raise WrongUsage(f"--text {file}: line {number} has no text; give each row one of: {', '.join(FIELDS)}, messages")
