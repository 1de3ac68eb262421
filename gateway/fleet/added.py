"""Adapters that were added by the API: kept in a store that all processes follow, and joined to those of the YAML.

The store is read every 0.6 s or so. While it is away nothing can be added or removed, and those known stay. A store
that has lost what it had is given it again. Where the YAML has an adapter of the same name, that one counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any, NamedTuple, cast

import orjson
from pydantic import ValidationError

from gateway.config.written.base import ModelName, Name, Text, Written
from gateway.fleet.adapter_check import is_beneath, roots
from gateway.ledger.location import directory_beside
from gateway.state.adapters import AdaptersAway, AdapterStore, FileAdapters, RedisAdapters
from gateway.table import Adapter, Table
from gateway.telemetry import Reading

logger = logging.getLogger("tollgate.fleet")

POLL_SECONDS = (0.5, 0.75)  # between two looks, drawn anew each time: replicas do not march in step
CLOSE_SECONDS = 2.0
MOST_ADDED = 10_000
FILE = "adapters.json"
MARK_BYTES = 4  # of what is added, in the revision of the configuration


def open_adapter_store(state: str, ledger: str) -> AdapterStore:
    """Of gateway.yaml's `state:` and `ledger:`. Connects to nothing and makes no file yet."""
    if not state.startswith("memory:"):
        return RedisAdapters(state)
    return FileAdapters(directory_beside(ledger) / FILE)


class AdapterName(NamedTuple):
    model: str
    name: str

    def __str__(self) -> str:
        return f"{self.model}:{self.name}"


class Entry(Written):
    """An adapter as the store has it."""

    model: ModelName
    name: Name
    path: Text
    tenants: list[Name] | None = None
    version: Name | None = None

    @property
    def key(self) -> AdapterName:
        return AdapterName(self.model, self.name)

    def text(self) -> str:
        """The same for the same adapter."""
        fields: dict[str, Any] = self.model_dump()
        fields["tenants"] = None if self.tenants is None else sorted(set(self.tenants))
        return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS).decode()

    def adapter(self) -> Adapter:
        tenants = None if self.tenants is None else frozenset(self.tenants)
        return Adapter(self.name, self.path, tenants, self.version, examined=True)


class Added:
    """Of one process. `table` is the one that was written; `changed` is called, on the event loop, whenever `join`
    would make another one of it."""

    def __init__(self, store: AdapterStore, table: Table, changed: Callable[[], None]) -> None:
        self._store = store
        self._changed = changed
        self._texts: Mapping[str, str] = {}  # as the store has them
        self._entries: dict[str, tuple[Entry, Adapter]] = {}  # those that can be read; by the same names
        self._looking = asyncio.Lock()
        self._revision = ""  # of the store
        self.written = table  # set by whoever puts another one into effect
        self.idle: Mapping[AdapterName, str] = {}  # those that do not count, and why
        self.away = ""  # why the store could not be used at the last look

    @property
    def adapters(self) -> Mapping[AdapterName, Adapter]:
        """All that were added."""
        return {entry.key: adapter for entry, adapter in self._entries.values()}

    def is_written(self, key: AdapterName) -> bool:
        """Whether the YAML has one of this name."""
        model = self.written.models.get(key.model)
        return model is not None and key.name in model.adapters

    def join(self, table: Table) -> Table:
        """What is written, with what was added: the table that is to be in effect."""
        tops = roots(table.settings.adapter_directories)
        joined: dict[str, dict[str, Adapter]] = {}
        idle: dict[AdapterName, str] = {}
        for entry, adapter in self._entries.values():
            if why := _idle(table, entry, tops):
                idle[entry.key] = why
            else:
                joined.setdefault(entry.model, {})[entry.name] = adapter
        for key in sorted(idle.keys() - self.idle.keys()):
            logger.warning("an added adapter does not count", extra={"fields": {"adapter": str(key), "why": idle[key]}})
        self.idle = idle
        if not joined:
            return table
        models = dict(table.models)
        for name, adapters in joined.items():
            models[name] = replace(models[name], adapters={**models[name].adapters, **adapters})
        mark = blake2b(digest_size=MARK_BYTES)
        for name in sorted(f"{model}:{adapter}" for model, adapters in joined.items() for adapter in adapters):
            mark.update(self._texts[name].encode())
        return replace(table, models=models, revision=f"{table.revision}+{mark.hexdigest()}")

    async def add(self, entry: Entry) -> bool:
        """False where there is one with other content, which stays. Raises AdaptersAway, and changes nothing then."""
        text = entry.text()
        await self.look()  # what was lost is put back before it is written to
        is_kept = await self._store.add(str(entry.key), text) == text
        await self.look()
        return is_kept

    async def remove(self, key: AdapterName) -> bool:
        """False where there is none. Raises AdaptersAway, and changes nothing then."""
        await self.look()
        was_there = await self._store.remove(str(key))
        await self.look()
        return was_there

    async def run(self) -> None:
        """Follows the store until cancelled."""
        while True:
            await asyncio.sleep(random.uniform(*POLL_SECONDS))
            try:
                await self.look()
            except Exception:  # a fault of ours must not leave the process with old adapters for ever
                logger.exception("the added adapters could not be looked after, those known stay")

    async def look(self) -> None:
        """Takes over what the store has, and puts back what it has lost."""
        async with self._looking:
            try:
                await self._look()
            except AdaptersAway as error:
                if not self.away:
                    logger.warning("added adapters not read: those known stay", extra={"fields": {"why": str(error)}})
                self.away = str(error)
            else:
                self.away = ""

    async def close(self) -> None:
        with contextlib.suppress(TimeoutError, AdaptersAway):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._store.close()

    def readings(self) -> Iterator[Reading]:
        """For the metrics."""
        away = "1 while it cannot be read which adapters were added by the API."
        yield Reading("tollgate_adapters_away", away, float(bool(self.away)), {})
        count = "Adapters that were added by the API, by whether they are in effect."
        for in_effect, those in (("1", len(self._entries) - len(self.idle)), ("0", len(self.idle))):
            yield Reading("tollgate_adapters_added", count, those, {"in_effect": in_effect})

    async def _look(self) -> None:
        found = await self._store.read(self._revision)
        if found is not None and not found.revision and self._texts:
            logger.warning("the store had lost the added adapters, they are put back")
            for name, text in self._texts.items():
                await self._store.add(name, text)
            found = await self._store.read("")
        if found is not None:
            self._take(found.entries)
            self._revision = found.revision

    def _take(self, texts: Mapping[str, str]) -> None:
        kept = dict(sorted(texts.items())[:MOST_ADDED])
        entries: dict[str, tuple[Entry, Adapter]] = {}
        for name, text in kept.items():
            if self._texts.get(name) == text and name in self._entries:
                entries[name] = self._entries[name]  # the fleet tells a new one by its identity
            elif (entry := _read(name, text)) is not None:
                entries[name] = entry, entry.adapter()
        before, self._texts, self._entries = self._entries, kept, entries
        if entries != before:
            self._changed()


def _read(name: str, text: str) -> Entry | None:
    try:
        entry = Entry.model_validate(cast("object", orjson.loads(text)))
    except (ValidationError, ValueError):
        entry = None
    if entry is None or str(entry.key) != name:
        logger.error(
            "an entry of the store of adapters makes no sense and is left out",
            extra={"fields": {"entry": name[:200]}},
        )
        return None
    return entry


def _idle(table: Table, entry: Entry, tops: Collection[str]) -> str:
    """Why one that was added does not count, "" where it does."""
    model = table.models.get(entry.model)
    if model is None:
        return "the configuration has no such model"
    if entry.name in model.adapters:
        return "the YAML has an adapter of this name, which counts"
    if str(entry.key) in table.aliases:
        return "the YAML has an alias of this name, which counts"
    if not is_beneath(entry.path, tops):
        return "its path is beneath none of `adapters.directories` in gateway.yaml"
    return ""
