"""The store of keys as the commands use it: opened, asked, closed, all within one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gateway.config.draft import Draft
from gateway.config.load import key_store_location
from gateway.keyring.opening import open_key_store
from gateway.keyring.store import KeyStore

T = TypeVar("T")


def with_store(known: Draft, work: Callable[[KeyStore], Awaitable[T]]) -> T:
    """What `work` gives. Raises ConfigError where the store cannot be known, and what the store raises."""

    async def run() -> T:
        store = open_key_store(*key_store_location(known))
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())
