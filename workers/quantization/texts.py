"""Texts that users calibrate on: plain text, JSON Lines, Parquet, a data set saved to disk, or a directory of them.

A record is a text (`text`, or `prompt` and `completion` joined) or a conversation (`messages`).
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, cast

from workers.errors import WrongUsage

Conversation = list[dict[str, str]]
Record = str | Conversation

PIECE = 16_384  # characters; a longer text is read as several
KEPT = 4096  # pieces that are held in memory, chosen by seed among all
SAVED = "state.json"  # what datasets' save_to_disk leaves beside its Arrow files


class BadCalibration(WrongUsage):
    """Calibration data that cannot be used; the message names file and line."""


def files_of(path: Path) -> list[Path]:
    """The files to read, in an order that does not depend on the file system. Raises BadCalibration."""
    if not path.exists():
        raise BadCalibration(f"--calibration {path}: no such file or directory")
    if path.is_file():
        if path.suffix not in READERS:
            raise BadCalibration(f"--calibration {path}: can not read {path.suffix or 'that'}; {_ACCEPTED}")
        return [path]
    found = sorted(file for file in path.rglob("*") if file.is_file() and _is_data(file))
    if not found:
        raise BadCalibration(f"--calibration {path}: nothing to read in there; {_ACCEPTED}")
    return found


def digest_of_files(paths: Sequence[Path]) -> str:
    """sha256:… over the contents, in order; names and places do not count."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{total.hexdigest()}"


def chosen(records: Iterator[Record], seed: int, kept: int = KEPT) -> list[Record]:
    """At most `kept` records, each as likely as any other, in an order that the seed decides (reservoir sampling)."""
    random = Random(seed)
    found: list[Record] = []
    for index, record in enumerate(records):
        if len(found) < kept:
            found.append(record)
        elif (place := random.randrange(index + 1)) < kept:
            found[place] = record
    random.shuffle(found)
    return found


def read_records(paths: Sequence[Path]) -> Iterator[Record]:
    """All records of all files that are not blank. Raises BadCalibration at the first that is none."""
    for path in paths:
        try:
            yield from READERS[path.suffix](path)
        except UnicodeDecodeError as error:
            raise BadCalibration(
                f"{path} is not UTF-8 ({error.reason} at byte {error.start}); convert it first"
            ) from None
        except OSError as error:
            raise BadCalibration(f"{path} cannot be read: {error.strerror or error}") from None


def record_of(row: Mapping[str, Any], where: str) -> Iterator[Record]:
    """What one row of a file says: nothing if it is blank, several pieces if it is long."""
    match row:
        case {"messages": list()}:
            yield from _conversation(row["messages"], where)
        case {"prompt": str(prompt), "completion": str(completion)}:
            yield from _pieces(prompt + completion)
        case {"prompt": list(), "completion": list()}:
            yield from _conversation([*row["prompt"], *row["completion"]], where)
        case {"text": str(text)}:
            yield from _pieces(text)
        case _:
            raise BadCalibration(
                f"{where}: no `text`, `messages`, or `prompt` and `completion` there, only"
                f" {', '.join(map(repr, list(row)[:5])) or 'an empty object'}"
            )


def _conversation(messages: Sequence[object], where: str) -> Iterator[Record]:
    found: Conversation = []
    for message in messages:
        match message:
            case {"role": str(role), "content": str(content)}:
                found.append({"role": role, "content": content})
            case _:
                raise BadCalibration(f"{where}: a message needs `role` and `content`, both text: {message!r:.100}")
    if any(message["content"].strip() for message in found):
        yield found


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), PIECE):
        if text[start : start + PIECE].strip():
            yield text[start : start + PIECE]


def _read_text(path: Path) -> Iterator[Record]:
    with path.open(encoding="utf-8") as file:
        while text := file.read(PIECE):
            yield from _pieces(text)


def _read_lines(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row: Any = json.loads(line)
            except UnicodeDecodeError as error:
                raise BadCalibration(f"{path}:{number}: not UTF-8 ({error.reason}); convert the file first") from None
            except (ValueError, RecursionError) as error:
                raise BadCalibration(f"{path}:{number}: not JSON: {error}") from None
            if not isinstance(row, dict):
                raise BadCalibration(f'{path}:{number}: a line must be an object, such as {{"text": "…"}}')
            yield from record_of(cast("dict[str, Any]", row), f"{path}:{number}")


def _read_parquet(path: Path) -> Iterator[Record]:
    yield from _rows(path, lambda: _arrow(".parquet").ParquetFile(path).iter_batches(batch_size=256))


def _read_arrow(path: Path) -> Iterator[Record]:
    yield from _rows(path, lambda: _arrow(".ipc").open_stream(_arrow("").memory_map(str(path))))


def _rows(path: Path, batches: Callable[[], Iterator[Any]]) -> Iterator[Record]:
    number = 0
    try:
        for batch in batches():
            for row in batch.to_pylist():
                number += 1
                yield from record_of(row, f"{path}: row {number}")
    except _arrow("").ArrowException as error:
        raise BadCalibration(f"{path} can not be read: {error}") from None


def _arrow(module: str) -> Any:
    try:
        return importlib.import_module(f"pyarrow{module}")
    except ImportError:
        raise BadCalibration("Parquet and Arrow files need pyarrow here, or: make quantize-env") from None


def _is_data(path: Path) -> bool:
    if path.suffix == ".arrow":
        return (path.parent / SAVED).is_file() and not path.name.startswith("cache-")
    return path.suffix in READERS and not path.name.startswith(".")


READERS: Mapping[str, Callable[[Path], Iterator[Record]]] = {
    ".txt": _read_text,
    ".md": _read_text,
    ".jsonl": _read_lines,
    ".ndjson": _read_lines,
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
}
_ACCEPTED = "give .txt, .md, .jsonl or .parquet files, what datasets saves to disk, or a directory of them"
