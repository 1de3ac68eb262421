"""From the configuration to the store of keys it means: `state:` in Redis, or a file beside the ledger."""

from __future__ import annotations

from gateway.keyring.sqlite import SqliteKeyStore
from gateway.keyring.store import KeyStore
from gateway.ledger.location import directory_beside

FILE = "keys.db"


def open_key_store(state: str, ledger: str) -> KeyStore:
    """Of gateway.yaml's `state:` and `ledger:`. Connects to nothing and makes no file yet."""
    if not state.startswith("memory:"):
        from gateway.keyring.redis import RedisKeyStore  # only who configures Redis pays for loading its client

        return RedisKeyStore(state)
    return SqliteKeyStore(directory_beside(ledger) / FILE)
