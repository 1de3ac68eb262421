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
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import cast
from urllib.parse import unquote, urlsplit

import yaml

from gateway.table import Worker

logger = logging.getLogger("tollgate.fleet")

RESOLVE_SECONDS = 2.0  # between two looks at a name, whatever lifetime its records have: resolvers keep that
ANSWER_SECONDS = 5.0  # a resolver may take
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


def members(template: Worker, urls: Iterable[str]) -> dict[str, Worker]:
    """The workers behind a configured one, by name."""
    found = (replace(template, name=f"{template.name}-{_tail(template, url)}", url=url) for url in urls)
    return {worker.name: worker for worker in found}


def _tail(template: Worker, url: str) -> str:
    """What tells it from its siblings: of a name in DNS they share the port."""
    address = urlsplit(url).hostname or "" if template.url.startswith("dns+") else url.partition("://")[2]
    return re.sub(r"[^A-Za-z0-9._]+", "-", address).strip("-")


async def system_resolver(host: str) -> Collection[str]:
    """A and AAAA records by the system's own resolver. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return {str(address[0]) for *_, address in found}


class Discovery:
    """Looks behind one address until cancelled. `changed` is called after the first look, and when others are found."""

    def __init__(
        self, name: str, url: str, changed: Callable[[], None], random: Random, resolve: Resolve = system_resolver
    ) -> None:
        self.url = url
        self.urls: tuple[str, ...] = ()
        self.error = ""  # why the last look found nothing out
        self.has_looked = False
        self._name = name
        self._changed = changed
        self._random = random
        self._resolve = resolve
        self._absent: dict[str, int] = {}  # looks in a row
        self._seen: tuple[int, ...] | None = None  # of the file, at the last look
        self._read: tuple[int, ...] | None = None  # when it was read

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
                found = await asyncio.to_thread(self._listed)
        except LookFailed as error:
            self._fail(str(error))
            return
        if self.error:
            logger.info("workers looked up again", extra={"fields": {"worker": self._name}})
        self.error = ""
        if found is not None:
            self._take(found)

    def _fail(self, why: str) -> None:
        if why != self.error:
            fields = {"worker": self._name, "why": why, "known": len(self.urls)}
            logger.warning("workers not looked up: those known stay", extra={"fields": fields})
        self.error = why
        if not self.has_looked:
            self.has_looked = True
            self._changed()

    def _take(self, found: Collection[str]) -> None:
        urls = tuple(sorted(set(found))[:MOST_FOUND])
        if len(set(found)) > MOST_FOUND and urls != self.urls:
            fields = {"worker": self._name, "found": len(set(found)), "taken": MOST_FOUND}
            logger.warning("more workers found than one address may stand for", extra={"fields": fields})
        if urls == self.urls and self.has_looked:
            return
        before, self.urls, self.has_looked = self.urls, urls, True
        fields = {"worker": self._name, "found": len(urls), "new": len(set(urls) - set(before))}
        logger.info("workers found", extra={"fields": fields})
        self._changed()

    def _still_there(self, answered: Collection[str]) -> set[str]:
        """Those answered, and those that have not been absent often enough to be gone."""
        self._absent = {url: self._absent.get(url, 0) + 1 for url in self.urls if url not in answered}
        return {*answered, *(url for url, looks in self._absent.items() if looks < ABSENT_LOOKS)}

    def _listed(self) -> list[str] | None:
        """None where the file is as it was."""
        path = Path(unquote(self.url.removeprefix("file://")))
        try:
            stat = os.stat(path)
        except OSError as error:
            raise LookFailed(f"{path} cannot be read ({error.strerror}): write the list of URLs there") from None
        seen = stat.st_mtime_ns, stat.st_size, stat.st_ino
        was_same = seen == self._seen
        self._seen = seen
        if self.has_looked and not was_same:  # perhaps it is being written
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
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        document: object = yaml.safe_load(data) if len(data) <= MAX_FILE_BYTES else None
    except OSError as error:
        raise LookFailed(f"{path} cannot be read ({error.strerror}): write the list of URLs there") from None
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


def _is_url(text: str) -> bool:
    if _URL.fullmatch(text) is None:
        return False
    try:
        return urlsplit(text).port != 0
    except ValueError:
        return False
