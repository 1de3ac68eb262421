"""Which store a configuration means."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.keyring.opening import open_key_store


@pytest.mark.parametrize(
    ("ledger", "path"),
    [
        ("sqlite:////srv/books/ledger.db", "/srv/books/keys.db"),
        ("sqlite:///var/ledger.db", str(Path("var/keys.db").absolute())),
        ("postgresql://h/db", str(Path("var/keys.db").absolute())),
    ],
)
def test_without_redis_keys_lie_beside_the_ledger(ledger: str, path: str) -> None:
    assert open_key_store("memory://", ledger).place == path


@pytest.mark.parametrize(
    ("state", "place"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("rediss://user:secret@h:6379/0?socket_timeout=1&password=secret", "rediss://h:6379/0"),
        ("redis+cluster://:secret@h:7000", "redis+cluster://h:7000"),
    ],
)
def test_a_redis_is_named_without_its_password(state: str, place: str) -> None:
    async def story() -> None:
        store = open_key_store(state, "sqlite:///var/ledger.db")
        assert store.place == place
        await store.close()

    asyncio.run(story())
