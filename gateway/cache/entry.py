"""What the response cache holds, and the protocol its stores speak."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Entry(NamedTuple):
    """One complete successful answer as the worker sent it (a stream's bytes include its usage frame and end)."""

    body: bytes
    content_type: bytes
    served: str  # model@version that made it
    engine_model: str  # the `model` text inside the body, which a replay replaces with what its client asked for
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int


class Store(Protocol):
    """A bounded place for entries. Neither call raises or waits long: a store that is away is a miss."""

    async def get(self, key: bytes) -> Entry | None: ...

    def put(self, key: bytes, entry: Entry, ttl: float) -> None:
        """Keeps `entry` for `ttl` seconds. Returns at once; a remote store writes in the background, bounded."""
        ...

    async def close(self) -> None: ...
