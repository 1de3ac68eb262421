"""A registry in a directory, which may be a mounted object store:

    tollgate-registry.json                      what this directory is
    artifacts/sha256/DIGEST/…                   files of artifacts, never changed
    records/DIGEST/SHA256.json                  what is known of an artifact, by the SHA-256 of the record
    names/versions/MODEL/VERSION/000001.json    what a name stands for: the entry with the highest number
    names/adapters/MODEL/ADAPTER/000001.json
    .incoming/                                  what is being written; worth nothing once its writer has ended

Each thing gets its place in one step and after what it refers to: bytes, then record, then name. So whenever a writer
is killed, what is there is whole, and what is not named was not registered.
"""

from __future__ import annotations

import errno
import uuid
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from workers.errors import WorkerToolError, WrongUsage
from workers.registry import files
from workers.registry.digest import ALGORITHM, Advance, FileDigest, digest_of_files, unheard
from workers.registry.files import Step
from workers.registry.record import Entry, Kind, Record, canonical, identity, read_record, seal, unseal

MARKER = "tollgate-registry.json"
MARK = b'{"format": 1}\n'
INCOMING = ".incoming"
LOCK = ".lock"
WAIT = 60.0  # seconds for another writer
KINDS: Mapping[Kind, str] = {"version": "versions", "adapter": "adapters"}
SEPARATORS: Mapping[Kind, str] = {"version": "@", "adapter": ":"}
MOST_ENTRIES = 999_999


class NotStored(WorkerToolError):
    """Something cannot be put into the registry; nothing of it is registered."""


class NameTaken(WrongUsage):
    """The name stands for other bytes."""


@dataclass(frozen=True, slots=True)
class Name:
    """What a model's version or adapter is called: scribe@int8, scribe:sql."""

    kind: Kind
    model: str
    name: str

    def __str__(self) -> str:
        return f"{self.model}{SEPARATORS[self.kind]}{self.name}"


def parse_name(text: str) -> Name | None:
    """MODEL@VERSION, MODEL:ADAPTER, or MODEL/VERSION, whose model may have further slashes."""
    forms: tuple[tuple[str, Kind], ...] = (("@", "version"), (":", "adapter"), ("/", "version"))
    for separator, kind in forms:
        model, found, name = text.rpartition(separator)
        if found and model and name:
            return Name(kind, model, name)
    return None


@dataclass(frozen=True, slots=True)
class Placed:
    """Where an artifact lies. `repaired` are files that were not as they should be there and are now."""

    path: Path
    reused: bool
    repaired: tuple[str, ...] = ()


def _silent(_: str) -> None:
    """Nobody looks on."""


class Store:
    """`step` is told of every change of the disk, before and after it."""

    def __init__(self, root: Path, step: Step = _silent) -> None:
        self.root = root
        self._step = step

    @contextmanager
    def writing(self, wait: float = WAIT) -> Generator[None]:
        """The only writer while the block runs; makes the registry where there is none. Raises Busy, NotStored."""
        with translated(self.root):
            marker = self.root / MARKER
            if self.root.is_dir() and not marker.exists() and _is_in_use(self.root):
                raise WrongUsage(f"{self.root} holds something else; name an empty directory, or one that is not there")
            files.make(self.root)
            with files.locked(self.root / LOCK, wait):
                self._clear()
                files.make(self.root / INCOMING)
                if not marker.exists():
                    self._name_content(MARK, marker)
                yield

    def exists(self) -> bool:
        return (self.root / MARKER).is_file()

    def artifact(self, digest: str) -> Path:
        """Where the artifact of this digest lies, if it is here."""
        return self.root / "artifacts" / ALGORITHM / digits(digest)

    def put_artifact(
        self,
        paths: Mapping[str, Path],
        known: Mapping[str, FileDigest],
        advance: Advance = unheard,
        wrong: Mapping[str, str] | None = None,
    ) -> Placed:
        """Copies files that have these digests, unless they are here. `wrong` is what is amiss with those that are.
        Raises NotStored where one has changed meanwhile."""
        target = self.artifact(digest_of_files(known))
        if target.is_dir() and not wrong:
            return Placed(target, reused=True)
        scratch = self._scratch()
        try:
            self._fill(scratch, paths, known, advance)
        except BaseException:
            files.remove(scratch)  # a full disk is not kept full
            raise
        for directory in (*(path for path in scratch.rglob("*") if path.is_dir()), scratch):
            files.flush(directory)
        files.make(target.parent)
        damaged = self._scratch()
        if target.exists():
            self._step("before the damaged artifact is moved away")
            target.rename(damaged)
            self._step("after the damaged artifact is moved away")
        self._step("before the artifact has its place")
        scratch.rename(target)
        self._step("after the artifact has its place")
        files.flush(target.parent)
        files.remove(damaged)
        return Placed(target, reused=False, repaired=tuple(wrong or ()))

    def _fill(
        self, scratch: Path, paths: Mapping[str, Path], known: Mapping[str, FileDigest], advance: Advance
    ) -> None:
        scratch.mkdir()
        for name, source in paths.items():
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            if files.copy(source, scratch / name, advance) != known[name]:
                raise NotStored(f"{source} has been changed meanwhile; register it again when nobody writes to it")
            self._step(f"copied {name}")

    def put_record(self, record: Record) -> str:
        """The SHA-256 of the record, or of one that says the same and is here already, at whatever time."""
        for sha256, present in self.records(record.digest):
            if present.model_copy(update={"at": record.at}) == record:
                return sha256
        sha256 = identity(record)
        target = self.record_path(record.digest, sha256)
        files.make(target.parent)
        self._name_content(canonical(record), target)
        return sha256

    def check_name(self, name: Name, digest: str, *, move: bool) -> None:
        """Raises NameTaken where the name stands for another digest and is not to move."""
        history = self.history(name)
        if history and history[-1].digest != digest and not move:
            last = history[-1]
            raise NameTaken(
                f"{name} is {last.digest} since {last.at}, registered by {last.by}; give the new one a name of its own,"
                " or add --move to let this name stand for it from now on (the history keeps both)"
            )

    def put_name(self, name: Name, record: Record, sha256: str, *, move: bool = False) -> bool:
        """Lets the name stand for the record; False where it does already. Raises NameTaken where it stands for another
        digest and is not to move."""
        self.check_name(name, record.digest, move=move)
        history = self.history(name)
        last = history[-1] if history else None
        if last is not None and last.record == sha256:
            return False
        number = last.number + 1 if last else 1
        if number > MOST_ENTRIES:
            raise NotStored(f"{name} has been registered {MOST_ENTRIES} times; choose another name")
        entry = Entry(
            name=str(name),
            number=number,
            digest=record.digest,
            record=sha256,
            previous=identity(last) if last else None,
            moved=last is not None and last.digest != record.digest,
            by=record.by,
            at=record.at,
        )
        directory = self.history_of(name)
        files.make(directory)
        self._name_content(seal(entry), directory / f"{number:06d}.json")
        return True

    def records(self, digest: str) -> list[tuple[str, Record]]:
        """All records of an artifact with their SHA-256, the oldest first. Raises Unreadable."""
        found = [(path.stem, self.record(digest, path.stem)) for path in self.record_paths(digest)]
        return sorted(found, key=lambda pair: (pair[1].at, pair[0]))

    def record(self, digest: str, sha256: str) -> Record:
        """Raises Unreadable, and NotStored where there is none."""
        path = self.record_path(digest, sha256)
        with translated(self.root):
            return read_record(path.read_bytes(), sha256, path)

    def record_paths(self, digest: str) -> list[Path]:
        return _files(self.root / "records" / digits(digest))

    def record_path(self, digest: str, sha256: str) -> Path:
        return self.root / "records" / digits(digest) / f"{sha256}.json"

    def history_of(self, name: Name) -> Path:
        """The directory of the name's entries."""
        return self.root / "names" / KINDS[name.kind] / _quoted(name.model) / _quoted(name.name)

    def history(self, name: Name) -> list[Entry]:
        """What the name has stood for, the oldest first; empty for one that is not registered. Raises Unreadable."""
        return [unseal(path.read_bytes(), path) for path in _files(self.history_of(name))]

    def names(self) -> Iterator[Name]:
        """All that is registered."""
        for kind, folder in KINDS.items():
            for model in _directories(self.root / "names" / folder):
                for name in _directories(model):
                    if any(_files(name)):
                        yield Name(kind, unquote(model.name), unquote(name.name))

    def digests(self) -> list[str]:
        """The artifacts whose bytes are here, named or not."""
        return [f"{ALGORITHM}:{path.name}" for path in _directories(self.root / "artifacts" / ALGORITHM)]

    def recorded(self) -> list[str]:
        """The artifacts of which there is a record."""
        return [f"{ALGORITHM}:{path.name}" for path in _directories(self.root / "records")]

    def incoming(self) -> list[Path]:
        """What writers have left behind, or are writing now."""
        directory = self.root / INCOMING
        return sorted(directory.iterdir()) if directory.is_dir() else []

    def release(self, digest: str) -> None:
        """Gives up an artifact's bytes; its records stay."""
        self._discard(self.artifact(digest))

    def forget(self, digest: str, sha256: str) -> None:
        """Gives up a record that no name has ever had."""
        path = self.record_path(digest, sha256)
        self._discard(path)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()

    def _discard(self, path: Path) -> None:
        if path.exists():
            scratch = self._scratch()
            self._step(f"before {path.name} is given up")
            path.rename(scratch)
            self._step(f"after {path.name} is given up")
            files.flush(path.parent)
            files.remove(scratch)

    def _name_content(self, content: bytes, target: Path) -> None:
        scratch = self._scratch()
        files.write(scratch, content)
        self._step(f"before {target.name} has its name")
        files.name(scratch, target)
        self._step(f"after {target.name} has its name")
        files.remove(scratch)

    def _scratch(self) -> Path:
        return self.root / INCOMING / uuid.uuid4().hex

    def _clear(self) -> None:
        """Away with what a killed writer has left: there is no other writer now."""
        for path in self.incoming():
            self._step("before something left behind is cleared")
            files.remove(path)


@contextmanager
def translated(root: Path) -> Generator[None]:
    """What a disk refuses, as people say it."""
    try:
        yield
    except OSError as error:
        where = error.filename2 or error.filename or root
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NotStored(
                f"the disk of {root} is full; make room (tollgate-worker registry gc) and run this again:"
                " nothing was registered"
            ) from None
        raise NotStored(f"{where}: {error.strerror or error}; the registry is as it was, run this again then") from None


def digits(digest: str) -> str:
    """The hexadecimal digits alone. Raises WrongUsage for what is no digest."""
    kind, _, found = digest.partition(":")
    if kind != ALGORITHM or len(found) != 64 or set(found) - set("0123456789abcdef"):
        raise WrongUsage(f"{digest!r} is no digest; write {ALGORITHM}: and 64 hexadecimal digits")
    return found


def _is_in_use(directory: Path) -> bool:
    return any(path.name not in (INCOMING, LOCK) for path in directory.iterdir())


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _files(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if path.suffix == ".json" and not path.name.startswith("."))


def _directories(directory: Path) -> list[Path]:
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))
