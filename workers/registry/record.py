"""What is known of a registered artifact: its record, and the history of a name. Neither is ever changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from workers.errors import WorkerToolError

FORMAT = 1
SHORT = 12  # hexadecimal digits by which people know a digest

Kind = Literal["version", "adapter"]
Document = TypeVar("Document", bound=BaseModel)


class Unreadable(WorkerToolError):
    """A document of the registry is not what was written; the message says which."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class File(_Part):
    """Size in bytes, SHA-256 of the content in hexadecimal."""

    size: int
    sha256: str


class Base(_Part):
    """The checkpoint an artifact was made from, or an adapter was trained on."""

    name: str
    digest: str | None
    revision: str | None


class Adapter(_Part):
    """A LoRA adapter in the artifact: merged into the weights, or kept beside them."""

    name: str
    digest: str
    merged: bool


class Requires(_Part):
    """What it takes to serve the artifact. `memory_bytes` is of the weights alone."""

    compute_capability: float | None = None
    driver: str | None = None
    cpu: bool = True
    cpu_flags: tuple[str, ...] = ()
    memory_bytes: int | None = None


class Gate(_Part):
    """A verdict of the evaluation, in words. `passed` None could not be judged."""

    gate: str
    passed: bool | None
    measured: str
    bound: str
    reason: str
    optional: bool


class Override(_Part):
    """Who let it be registered although it had not passed, and why."""

    by: str
    reason: str


class Record(_Part):
    """Everything about one artifact and one evaluation of it. `manifest` and `evaluation` are as their files had them,
    None and with them lineage where an artifact came without."""

    format: Literal[1] = FORMAT
    kind: Kind
    name: str  # scribe@int8, scribe:sql
    digest: str
    files: Mapping[str, File]
    base: Base | None
    adapter: Adapter | None
    recipe: str | None
    quantization: str
    quality: float | None  # reference perplexity / candidate's, at most 1
    calibration_sha256: str | None
    libraries: Mapping[str, str]  # it was made with
    engine: str  # it was evaluated with
    engine_libraries: Mapping[str, str]
    device: str  # it was evaluated on
    requires: Requires
    gates: tuple[Gate, ...]
    passed: bool
    override: Override | None
    manifest: Mapping[str, Any] | None
    evaluation: Mapping[str, Any]
    evaluation_sha256: str  # of the file's bytes
    tollgate: str
    by: str
    at: str  # ISO 8601, UTC

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files.values())


class Entry(_Part):
    """One step of a name's history: from now on it stands for this digest. `previous` is the SHA-256 of the entry
    before, so none of them can be changed or taken out unseen."""

    format: Literal[1] = FORMAT
    name: str
    number: int
    digest: str
    record: str
    previous: str | None
    moved: bool
    by: str
    at: str


def canonical(document: BaseModel) -> bytes:
    """The only bytes a document is written as."""
    return (json.dumps(document.model_dump(mode="json"), sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def identity(document: BaseModel) -> str:
    """SHA-256 of the document as written, in hexadecimal."""
    return hashlib.sha256(canonical(document)).hexdigest()


def read_record(content: bytes, sha256: str, where: object) -> Record:
    """Raises Unreadable where the content is another than that of this SHA-256."""
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Unreadable(f"{where} has been changed: its content is not that of its name")
    return _read(Record, content, where)


def seal(entry: Entry) -> bytes:
    """The entry as its file holds it: with its own SHA-256 below."""
    return canonical(entry) + f"# sha256 {identity(entry)}\n".encode()


def unseal(content: bytes, where: object) -> Entry:
    """Raises Unreadable where a byte has been changed since `seal`."""
    document, _, _ = content.rpartition(b"# sha256 ")
    entry = _read(Entry, document, where)
    if seal(entry) != content:
        raise Unreadable(f"{where} has been changed: it does not have the SHA-256 that it ends with")
    return entry


def _read(kind: type[Document], content: bytes, where: object) -> Document:
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise Unreadable(f"{where} is none of this version's documents: {place}: {first['msg']}") from None


def short(digest: str) -> str:
    """`sha256:0123456789ab…`, for tables."""
    kind, _, digits = digest.partition(":")
    return f"{kind}:{digits[:SHORT]}"
