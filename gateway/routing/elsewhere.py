"""What other gateways have under way on the same workers, as they say themselves. No IO, no clock.

Each says, again and again, how much it has in flight on each worker and which prompts it has sent there since it spoke
last. Load is said whole, so a message that is lost is made good by the next; a prompt that is lost costs a wrong guess
of a time. Who has been silent for SILENT_SECONDS counts for nothing: without the others each decides by its own account
and by what polls say, as if it were alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import orjson

SILENT_SECONDS = 1.0
MOST_HASHES = 4_096  # of prompts in one message; of what does not fit nobody is told
MOST_GATEWAYS = 256
_WORD = 1 << 64


class Sent(NamedTuple):
    """A prompt, as `prefix.PrefixCache.insert` takes it."""

    root: int
    chain: Sequence[int]


class Share(NamedTuple):
    """What one gateway has on one worker; what others have is the sum."""

    inflight: int
    pending_tokens: int
    sent: Sequence[Sent] = ()


NOTHING = Share(0, 0)


def said(gateway: str, shares: Mapping[str, Share]) -> bytes:
    """A message; the workers are known by their URLs, which are the same to all."""
    room = MOST_HASHES
    workers: dict[str, list[object]] = {}
    for url, share in shares.items():
        prompts: list[tuple[int, Sequence[int]]] = []
        for root, chain in share.sent:
            if len(chain) <= room:
                prompts.append((root, chain))
                room -= len(chain)
        workers[url] = [share.inflight, share.pending_tokens, prompts]
    return orjson.dumps([gateway, workers])


def heard(message: bytes) -> tuple[str, dict[str, Share]]:
    """Who says what. Raises ValueError for what is no message of this version."""
    found: Any = orjson.loads(message)
    if not isinstance(found, list) or len(cast("list[Any]", found)) != 2:
        raise ValueError("no message of a gateway")
    gateway, workers = cast("list[Any]", found)
    if not isinstance(gateway, str) or not isinstance(workers, dict):
        raise ValueError("no message of a gateway")
    return gateway, {url: _share(share) for url, share in cast("dict[str, Any]", workers).items()}


class Elsewhere:
    """All others, as far as they have been heard of."""

    def __init__(self, own: str) -> None:
        self._own = own
        self._others: dict[str, tuple[float, Mapping[str, Share]]] = {}  # with when it was heard

    def hear(self, message: bytes, now: float) -> Iterable[tuple[str, Sent]]:
        """Takes the message in, and gives the prompts that were sent, each with the URL of its worker. Raises
        ValueError for what is none; one's own says nothing new."""
        gateway, shares = heard(message)
        if gateway == self._own or (gateway not in self._others and len(self._others) >= MOST_GATEWAYS):
            return []
        self._others[gateway] = now, {url: share._replace(sent=()) for url, share in shares.items()}
        return [(url, sent) for url, share in shares.items() for sent in share.sent]

    def totals(self, now: float) -> dict[str, Share]:
        """By worker; a worker where others have nothing is left out."""
        late = [name for name, (at, _) in self._others.items() if now - at > SILENT_SECONDS]
        for name in late:
            del self._others[name]
        sums: dict[str, Share] = {}
        for _, shares in self._others.values():
            for url, share in shares.items():
                before = sums.get(url, NOTHING)
                sums[url] = Share(before.inflight + share.inflight, before.pending_tokens + share.pending_tokens)
        return sums

    def __len__(self) -> int:
        """How many others there are."""
        return len(self._others)


def _share(written: Any) -> Share:
    if not isinstance(written, list) or len(cast("list[Any]", written)) != 3:
        raise ValueError("no share of a worker")
    inflight, pending, prompts = cast("list[Any]", written)
    if not isinstance(prompts, list):
        raise ValueError("no list of prompts")
    sent = [_sent(prompt) for prompt in cast("list[Any]", prompts)]
    if sum(len(one.chain) for one in sent) > MOST_HASHES:
        raise ValueError("more prompts than a message may have")
    return Share(_count(inflight), _count(pending), sent)


def _sent(written: Any) -> Sent:
    if not isinstance(written, list) or len(cast("list[Any]", written)) != 2:
        raise ValueError("no prompt")
    root, chain = cast("list[Any]", written)
    if not isinstance(chain, list):
        raise ValueError("no chain of hashes")
    return Sent(_word(root), [_word(hashed) for hashed in cast("list[Any]", chain)])


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise ValueError("no count")
    return value


def _word(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _WORD:
        raise ValueError("no hash")
    return value
