"""Which version of an adapter lies at a path: a digest of the path and of the files, where this machine sees them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import stat
from collections.abc import Mapping
from pathlib import Path

from gateway.table import Adapter, Model

logger = logging.getLogger("tollgate.fleet")

MOST_FILES = 64
MOST_BYTES = 8 * 1024**3  # of one adapter's files; beyond, their sizes and times count for their content
CHUNK_BYTES = 1024 * 1024
DIGEST_BYTES = 8

Signature = tuple[tuple[str, int, int, int], ...]  # name, bytes, time of change in nanoseconds, inode; by name


class Versions:
    """The versions of all adapters, each found out when it is first asked for and again when its files have changed:
    other ones that two looks in a row find the same. No files are no version, and the last one stays."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Signature, str]] = {}  # by path
        self._unsettled: dict[str, Signature] = {}  # by path: other files, as the last look found them
        self._reading = asyncio.Lock()  # one adapter is read at a time

    def known(self, adapter: Adapter) -> str:
        """ "" while it is not."""
        if adapter.version is not None:
            return adapter.version
        found = self._known.get(adapter.path)
        return "" if found is None else found[1]

    async def find(self, adapter: Adapter) -> str:
        if not self.known(adapter):
            async with self._reading:
                if not self.known(adapter):
                    self._known[adapter.path] = await asyncio.to_thread(_look, adapter.path)
        return self.known(adapter)

    async def review(self, models: Mapping[str, Model]) -> bool:
        """Looks at all files again whose version is known; whether one has changed. Others are forgotten."""
        paths = {one.path for model in models.values() for one in model.adapters.values() if one.version is None}
        changed = False
        for path in [path for path in self._known if path not in paths]:
            del self._known[path]
            self._unsettled.pop(path, None)
        async with self._reading:
            for path, (signature, version) in list(self._known.items()):
                now = await asyncio.to_thread(_signature, path)
                if not self._is_settled(path, now, signature):
                    continue
                found = await asyncio.to_thread(_look, path)
                if found[0] != now or await asyncio.to_thread(_signature, path) != now:
                    continue  # written to while it was read
                del self._unsettled[path]
                self._known[path] = found
                changed = changed or found[1] != version
        return changed

    def _is_settled(self, path: str, now: Signature, known: Signature) -> bool:
        """Whether these are other files than the known ones, and the same as at the last look."""
        if now == known:
            self._unsettled.pop(path, None)
            return False
        last = self._unsettled.get(path)
        self._unsettled[path] = now
        if not now and last != ():
            logger.warning("an adapter's files are gone, its last version stays", extra={"fields": {"path": path}})
        return bool(now) and last == now


def _look(path: str) -> tuple[Signature, str]:
    signature = _signature(path)
    digest = hashlib.blake2b(path.encode(), digest_size=DIGEST_BYTES)
    read_all = sum(size for _, size, _, _ in signature) <= MOST_BYTES
    for name, size, changed, _ in signature:
        digest.update(f"\0{name}\0{size}\0".encode())
        try:
            if not read_all:
                digest.update(str(changed).encode())
                continue
            with Path(path, name).open("rb") as file:
                while chunk := file.read(CHUNK_BYTES):
                    digest.update(chunk)
        except OSError:
            digest.update(str(changed).encode())
    return signature, digest.hexdigest()


def _signature(path: str) -> Signature:
    """Of the regular files right there; of none, where the path is not a directory that can be read here."""
    found: list[tuple[str, int, int, int]] = []
    try:
        for entry in Path(path).iterdir():
            about = entry.stat()
            if stat.S_ISREG(about.st_mode):
                found.append((entry.name, about.st_size, about.st_mtime_ns, about.st_ino))
            if len(found) > MOST_FILES:
                return ()
    except (OSError, ValueError):
        return ()
    return tuple(sorted(found))
