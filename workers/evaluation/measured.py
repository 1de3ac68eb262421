"""What was measured of one model, complete enough to compare another with it later; and where a reference's is kept."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import tempfile
import zlib
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workers.evaluation.distributions import Scored
from workers.evaluation.result import Divergence, Running
from workers.evaluation.robustness import RobustnessAnswers
from workers.evaluation.schemas import SchemaAnswers
from workers.evaluation.tasks.task import TaskAnswers

KEPT = 16  # references; the oldest goes first
PACKAGE = Path(__file__).parent


class Packed(BaseModel):
    """A window's positions as text: each array compressed, in base64."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    truths: str
    ends: str
    tokens: str
    logprobs: str

    @classmethod
    def of(cls, scored: Scored) -> Packed:
        arrays = (scored.truths, scored.ends, scored.tokens, scored.logprobs)
        truths, ends, tokens, logprobs = (
            base64.b64encode(zlib.compress(one.tobytes(), level=1)).decode() for one in arrays
        )
        return cls(truths=truths, ends=ends, tokens=tokens, logprobs=logprobs)

    def unpacked(self) -> Scored:
        """Raises ValueError."""
        return Scored(
            array("d", _bytes(self.truths)),
            array("q", _bytes(self.ends)),
            array("q", _bytes(self.tokens)),
            array("d", _bytes(self.logprobs)),
        )


class Measured(BaseModel):
    """Of one model. What was not asked for is empty. The windows are those that it was scored on."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    engine: str
    sample: tuple[int, ...]  # tokens of a text that every tokenizer cuts otherwise
    windows: tuple[tuple[int, ...], ...] = ()
    scored: tuple[Packed, ...] = ()
    floor: Divergence | None = None
    long_windows: tuple[tuple[int, ...], ...] = ()
    long_scored: tuple[Packed, ...] = ()
    tasks: tuple[TaskAnswers, ...] = ()
    schemas: SchemaAnswers | None = None
    running: Running = Field(default_factory=Running)
    robustness: RobustnessAnswers | None = None


def _bytes(packed: str) -> bytes:
    return zlib.decompress(base64.b64decode(packed))


def pack(scored: Sequence[Scored]) -> tuple[Packed, ...]:
    return tuple(map(Packed.of, scored))


def unpack(packed: Sequence[Packed]) -> list[Scored]:
    return [one.unpacked() for one in packed]


class Kept:
    """Measurements of references in a directory, by all that they depend on. Losing one costs time only."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def find(self, key: str) -> Measured | None:
        try:
            found = Measured.model_validate_json(self._path(key).read_bytes())
            unpack(found.scored)
        except (OSError, ValueError, ValidationError, zlib.error):
            return None
        with contextlib.suppress(OSError):
            os.utime(self._path(key))
        return found

    def keep(self, key: str, measured: Measured) -> str | None:
        """Completely or not at all. Where it can not be kept, why."""
        try:
            self._keep(key, measured)
        except OSError as error:
            return f"{self._directory}: {error.strerror}"
        return None

    def _keep(self, key: str, measured: Measured) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        descriptor, scratch = tempfile.mkstemp(prefix=".", suffix=".partial", dir=self._directory)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(measured.model_dump_json().encode())
            os.replace(scratch, self._path(key))
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise
        self._drop_old()

    def _drop_old(self) -> None:
        for pattern, kept in (("*.json", KEPT), (".*.partial", KEPT)):
            newest = sorted(self._directory.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
            for path in newest[kept:]:
                path.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self._directory / f"{key}.json"


def key_of(depends_on: Mapping[str, object]) -> str:
    """The same for the same things, and for the same code that measures them."""
    total = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).parts[0] != "report":
            total.update(path.read_bytes())
    return total.hexdigest()[:32]
