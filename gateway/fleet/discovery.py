"""Workers found behind an address that stands for several: a name in DNS, or a file that lists them.

Each one found is a worker of its own, named after the configured one and its address, and like it in all but the URL.
What is not found for once stays: a look that fails, or a file that makes no sense, leaves those known.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import stat
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from random import Random
from typing import cast
from urllib.parse import unquote, urlsplit

import yaml

from gateway.fleet.aside import Aside
from gateway.fleet.expansion import Behind
from gateway.table import Worker

logger = logging.getLogger("tollgate.fleet")

RESOLVE_SECONDS = 2.0  # between two looks at a name, whatever lifetime its records have: resolvers keep that
ANSWER_SECONDS = 5.0  # a resolver or a disk may take
ABSENT_LOOKS = 2  # in a row, for an address to be gone: some resolvers give only some of them at a time
FILE_SECONDS = 0.25  # between two looks at a file; it is read once it has been the same for two
MOST_FOUND = 1_024  # behind one address
MAX_FILE_BYTES = 1024 * 1024
JITTER = 0.1

_URL = re.compile(r"https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::[0-9]{1,5})?(?:/[A-Za-z0-9_./~-]*)?")

Resolve = Callable[[str], Awaitable[Collection[str]]]


class LookFailed(Exception):
    """The message says what was wrong and what to do."""


def stands_for_many(worker: Worker) -> bool:
    return worker.url.startswith(("dns+", "file://"))


async def system_resolver(host: str) -> Collection[str]:
    """A and AAAA records by the system's own resolver. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return {str(address[0]) for *_, address in found}


class Discovery:
    """Looks behind one address until cancelled. `changed` is called after the first look, and when others are found.
    Until a look succeeds it has those `kept`, which were found by the address before."""

    def __init__(
        self,
        name: str,
        url: str,
        changed: Callable[[], None],
        random: Random,
        resolve: Resolve = system_resolver,
        kept: Behind | None = None,
    ) -> None:
        self.url = url
        self.urls: tuple[str, ...] = () if kept is None else tuple(kept.urls)
        self.warnings: tuple[str, ...] = ()  # of what was found: who is called otherwise, or is there already
        self.error = ""  # why the last look found nothing out
        self.has_looked = False
        self._name = name
        self._found_at = url if kept is None else kept.address
        self._disk = Aside()
        self._changed = changed
        self._random = random
        self._resolve = resolve
        self._absent: dict[str, int] = {}  # looks in a row
        self._seen: tuple[int, ...] | None = None  # of the file, at the last look
        self._read: tuple[int, ...] | None = None  # when it was read

    @property
    def behind(self) -> Behind:
        return Behind(self._found_at, self.urls)

    @property
    def has_its_own(self) -> bool:
        """Whether its URLs are not those kept from the address before."""
        return self._found_at == self.url

    def warn(self, warnings: tuple[str, ...]) -> None:
        """Says what was not said before."""
        for one in warnings:
            if one not in self.warnings:
                fields = {"worker": self._name, "why": one}
                logger.warning("a worker found meets another", extra={"fields": fields})
        self.warnings = warnings

    async def run(self) -> None:
        is_name = self.url.startswith("dns+")
        pace = RESOLVE_SECONDS if is_name else FILE_SECONDS
        while True:
            try:
                await self.look()
            except Exception:  # whatever a resolver or a disk comes up with, it must not end the looking
                logger.exception("workers not looked up, in a new way", extra={"fields": {"worker": self._name}})
            await asyncio.sleep(pace * self._random.uniform(1 - JITTER, 1 + JITTER))

    async def look(self) -> None:
        """Once."""
        try:
            if self.url.startswith("dns+"):
                found = self._still_there(await _resolved(self.url, self._resolve))
            else:
                found = await self._disk.do(self._listed, ANSWER_SECONDS)
        except LookFailed as error:
            self._fail(str(error))
            return
        except TimeoutError:
            self._fail(f"{self._path} cannot be read: its disk gives no answer within {ANSWER_SECONDS:g} s")
            return
        if found is None:
            return
        if self.error:
            logger.info("workers looked up again", extra={"fields": {"worker": self._name}})
        self.error = ""
        self._take(found)

    @property
    def _path(self) -> Path:
        return Path(unquote(self.url.removeprefix("file://")))

    def _fail(self, why: str) -> None:
        if why != self.error:
            fields = {"worker": self._name, "why": why, "known": len(self.urls)}
            if self.has_its_own:
                logger.warning("workers not looked up: those known stay", extra={"fields": fields})
            else:
                fields["found_at"] = self._found_at
                logger.warning("workers not looked up: those of the address before stay", extra={"fields": fields})
        self.error = why
        if not self.has_looked:
            self.has_looked = True
            self._changed()

    def _take(self, found: Collection[str]) -> None:
        urls = tuple(sorted(set(found))[:MOST_FOUND])
        if len(set(found)) > MOST_FOUND and urls != self.urls:
            fields = {"worker": self._name, "found": len(set(found)), "taken": MOST_FOUND}
            logger.warning("more workers found than one address may stand for", extra={"fields": fields})
        if urls == self.urls and self.has_looked and self.has_its_own:
            return
        before, self.urls, self.has_looked, self._found_at = self.urls, urls, True, self.url
        fields = {"worker": self._name, "found": len(urls), "new": len(set(urls) - set(before))}
        logger.info("workers found", extra={"fields": fields})
        self._changed()

    def _still_there(self, answered: Collection[str]) -> set[str]:
        """Those answered, and those that have not been absent often enough to be gone."""
        known = self.urls if self.has_its_own else ()
        self._absent = {url: self._absent.get(url, 0) + 1 for url in known if url not in answered}
        return {*answered, *(url for url, looks in self._absent.items() if looks < ABSENT_LOOKS)}

    def _listed(self) -> list[str] | None:
        """None where the file is as it was, or perhaps being written."""
        path = self._path
        try:
            status = os.stat(path)
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from None
        seen = status.st_mtime_ns, status.st_size, status.st_ino
        was_same = seen == self._seen
        self._seen = seen
        if self.has_looked and not was_same:
            return None
        if seen == self._read and not self.error:
            return None
        found = read_list(path)
        self._read = seen
        return found


async def _resolved(url: str, resolve: Resolve) -> set[str]:
    parts = urlsplit(url.removeprefix("dns+"))
    host = parts.hostname or ""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            addresses = await resolve(host)
    except TimeoutError:
        raise LookFailed(f"the resolver gave no answer for {host} within {ANSWER_SECONDS:g} s") from None
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise LookFailed(f"{host} has no address ({why}): see that the service has endpoints that are ready") from None
    if not addresses:
        raise LookFailed(f"{host} has no address: see that the service has endpoints that are ready")
    port = f":{parts.port}" if parts.port else ""
    return {f"{parts.scheme}://{f'[{one}]' if ':' in one else one}{port}{parts.path}" for one in addresses}


def read_list(path: Path) -> list[str]:
    """The URLs in a file: a list, or one under the key `urls`, in YAML or JSON. Raises `LookFailed`."""
    try:
        data = _content(path)
        document: object = yaml.safe_load(data) if len(data) <= MAX_FILE_BYTES else None
    except OSError as error:
        raise _unreadable(path, error) from None
    except (yaml.YAMLError, UnicodeError, RecursionError, ValueError):
        raise LookFailed(f"{path} is neither YAML nor JSON: write a list of URLs like [http://10.0.0.5:8000]") from None
    listed = cast("Mapping[str, object]", document).get("urls") if isinstance(document, Mapping) else document
    if not isinstance(listed, list):
        raise LookFailed(f"{path} has no list of URLs: write one like [http://10.0.0.5:8000], or `urls:` with one")
    entries = cast("list[object]", listed)
    for entry in entries:
        if not isinstance(entry, str) or not _is_url(entry):
            raise LookFailed(f"{path} lists `{str(entry)[:100]}`, which is no URL like http://10.0.0.5:8000")
    return [str(entry).rstrip("/") for entry in entries]


def _content(path: Path) -> bytes:
    """At most a byte more than may be there. Never waits for a writer, as a pipe would."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise LookFailed(f"{path} is not a regular file: put one there that lists the URLs")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_FILE_BYTES + 1)
    finally:
        os.close(descriptor)


def _unreadable(path: Path, error: Exception) -> LookFailed:
    why = getattr(error, "strerror", None) or str(error)
    return LookFailed(f"{path} cannot be read ({why}): write the list of URLs there")


def _is_url(text: str) -> bool:
    if _URL.fullmatch(text) is None:
        return False
    try:
        return urlsplit(text).port != 0
    except ValueError:
        return False
