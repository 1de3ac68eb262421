"""Whether a registry still holds what was put into it, to the byte."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from workers.registry.digest import Advance, FileDigest, digest_of_files, hash_file, unheard
from workers.registry.record import Entry, File, Record, Unreadable, identity
from workers.registry.store import Name, Store


class Finding(NamedTuple):
    """Something that is not as it was registered: which file, and what is wrong with it."""

    path: Path
    wrong: str

    def __str__(self) -> str:
        return f"{self.path}: {self.wrong}"


def audit(store: Store, digests: Iterable[str], advance: Advance = unheard) -> list[Finding]:
    """Everything wrong with these artifacts, their records and the names that stand for them."""
    found: list[Finding] = []
    entries, broken = histories(store)
    wanted = set(digests)
    found.extend(broken)
    found.extend(_unfounded(store, entry) for entry in entries if entry.digest in wanted and not _has(store, entry))
    current = {entry.digest for entry in latest(entries).values()}
    for digest in sorted(wanted):
        records, wrong = _records(store, digest)
        found.extend(wrong)
        if records:
            found.extend(_artifact(store, records[0], digest in current, advance))
        elif not wrong and digest in current:
            found.append(Finding(store.artifact(digest), "there is no record of it; register it again"))
    return found


def compare(directory: Path, files: Mapping[str, File], advance: Advance = unheard) -> dict[str, str]:
    """What is wrong with the files of an artifact's directory, by their path in it: changed, missing, or added."""
    present = _everything(directory)
    wrong = {name: "is missing" for name in files if name not in present}
    for name, path in present.items():
        expected = files.get(name)
        if expected is None:
            wrong[name] = "was added: it is not part of what was registered"
        elif not stat.S_ISREG(path.lstat().st_mode):
            wrong[name] = "has been changed: it is no longer a file of its own"
        elif path.stat().st_size != expected.size:
            wrong[name] = f"has been changed: {path.stat().st_size} bytes, {expected.size} were registered"
        elif hash_file(path, advance).sha256 != expected.sha256:
            wrong[name] = "has been changed: the same length, another content"
    return dict(sorted(wrong.items()))


def histories(store: Store) -> tuple[list[Entry], list[Finding]]:
    """All entries of all names, and what is wrong with how they follow each other."""
    entries: list[Entry] = []
    found: list[Finding] = []
    for name in store.names():
        where = store.history_of(name)
        try:
            history = store.history(name)
        except Unreadable as error:
            found.append(Finding(where, str(error)))
            continue
        entries.extend(history)
        found.extend(_chain(where, name, history))
    return entries, found


def latest(entries: Iterable[Entry]) -> dict[str, Entry]:
    """What each name stands for now."""
    return {entry.name: entry for entry in sorted(entries, key=lambda entry: entry.number)}


def _chain(where: Path, name: Name, history: list[Entry]) -> Iterable[Finding]:
    previous: str | None = None
    for number, entry in enumerate(history, start=1):
        if (entry.number, entry.previous, entry.name) != (number, previous, str(name)):
            yield Finding(
                where / f"{entry.number:06d}.json", "does not follow the entry before: one is missing or changed"
            )
            return
        previous = identity(entry)


def _has(store: Store, entry: Entry) -> bool:
    return store.record_path(entry.digest, entry.record).is_file()


def _unfounded(store: Store, entry: Entry) -> Finding:
    return Finding(store.record_path(entry.digest, entry.record), f"is missing; {entry.name} was registered with it")


def _records(store: Store, digest: str) -> tuple[list[Record], list[Finding]]:
    records: list[Record] = []
    found: list[Finding] = []
    for path in store.record_paths(digest):
        try:
            record = store.record(digest, path.stem)
        except Unreadable as error:
            found.append(Finding(path, str(error)))
        else:
            if record.digest != digest or _digest_of(record) != digest:
                found.append(Finding(path, "is the record of another artifact"))
            else:
                records.append(record)
    return records, found


def _digest_of(record: Record) -> str:
    return digest_of_files({name: FileDigest(file.size, file.sha256) for name, file in record.files.items()})


def _artifact(store: Store, record: Record, current: bool, advance: Advance) -> Iterable[Finding]:
    directory = store.artifact(record.digest)
    if not directory.is_dir():
        if current:
            yield Finding(directory, f"is missing; {record.name} stands for it: register its artifact again")
        return
    for name, wrong in compare(directory, record.files, advance).items():
        yield Finding(directory / name, wrong)


def _everything(directory: Path) -> dict[str, Path]:
    """Whatever lies below a directory and is no directory itself, hidden or not, links not followed."""
    found: dict[str, Path] = {}
    for folder, folders, names in os.walk(directory):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in (*names, *links):
            path = Path(folder) / name
            found[path.relative_to(directory).as_posix()] = path
    return found
