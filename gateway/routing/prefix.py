"""Which worker's prefix cache holds how much of a prompt: an index over all of them, as of what was sent there.

A prompt's text is cut into blocks, and each is known by a 64-bit hash of all that comes before its end. What engines
keep apart (models, versions, adapters, tenants by their cache salt) have different roots, mixed into every hash. The
index has a set of workers for each hash, as the bits of an integer, so that one walk along a prompt's blocks finds the
longest match on all workers at once. Each worker's blocks are forgotten as its engine does it, least recently used
first, a prompt's last block before its first. A collision costs a wrong guess of a time, nothing else.
"""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

BLOCK_BYTES: Final = 1024  # below 2,048 hashlib keeps the interpreter to itself, which is quicker for so little
BLOCK_TOKENS: Final = 256  # by the same guess as `Request.estimated_prompt_tokens`
MOST_BLOCKS: Final = 1024  # of one prompt: what lies behind is not looked at
BLOCKS_PER_WORKER: Final = 1400  # where nothing is known of its KV cache: between those of small and of large engines
FEWEST_BLOCKS: Final = 64  # that a worker is taken to have room for, whatever its answers say
BLOCKS_IN_ALL: Final = 400_000  # about 200 bytes each

# What stands at the front of what the model reads, in that order, under the names of all endpoints.
_READ: Final = ("tools", "system", "instructions", "messages", "prompt", "input")


class Prompt:
    """The text of one prompt. Its blocks are hashed when they are first asked for, if ever."""

    __slots__ = ("_chain", "_fields")

    def __init__(self, fields: Mapping[str, Any] | None, chain: list[int] | None = None) -> None:
        """`fields` are those of the request's body, read at the first `chain` and not kept after it; None where the
        blocks have been hashed already, as in a recorded trace."""
        self._fields = fields
        self._chain: list[int] = [] if chain is None else chain

    @property
    def chain(self) -> list[int]:
        """The hash of the prompt up to the end of each whole block."""
        fields = self._fields
        if fields is not None:
            self._fields = None
            self._chain = chain_of(canonical_text(fields))
        return self._chain


def canonical_text(fields: Mapping[str, Any]) -> bytes:
    """What the model is to read, the same for the same request however its JSON was spaced or escaped."""
    return orjson.dumps([fields[name] for name in _READ if name in fields])


def chain_of(text: bytes) -> list[int]:
    whole = min(len(text) // BLOCK_BYTES, MOST_BLOCKS) * BLOCK_BYTES
    running = hashlib.blake2b(digest_size=8)
    chain: list[int] = []
    for start in range(0, whole, BLOCK_BYTES):
        running.update(text[start : start + BLOCK_BYTES])
        chain.append(int.from_bytes(running.copy().digest(), "little"))
    return chain


@functools.lru_cache(maxsize=4096)
def root_of(model: str, version: str, adapter: str, salt: str) -> int:
    """What is mixed into the hashes of prompts whose prefixes are cached apart from all others'. 64 bits."""
    name = "\0".join((model, version, adapter, salt))
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


class PrefixIndex:
    """The prefix caches of all workers. Memory is bounded by `most_blocks`, counted once for each worker that has it.

    `block_tokens` is the size of what is hashed, in the tokens that `Ask` counts.
    """

    __slots__ = ("_caches", "_held", "_workers", "block_tokens", "most_blocks")

    def __init__(self, *, block_tokens: int = BLOCK_TOKENS, most_blocks: int = BLOCKS_IN_ALL) -> None:
        self.block_tokens = block_tokens
        self.most_blocks = most_blocks
        self._workers: dict[int, int] = {}  # hash -> those that hold the block, as bits
        self._caches: list[PrefixCache | None] = []  # by slot
        self._held = 0

    def __len__(self) -> int:
        """Blocks held, on all workers together."""
        return self._held

    def enrol(self) -> PrefixCache:
        """An empty cache, for a worker that is new."""
        if None not in self._caches:
            self._caches.append(None)
        slot = self._caches.index(None)
        cache = PrefixCache(self, slot)
        self._caches[slot] = cache
        for other in self._caches:
            if other is not None:
                other.trim()
        return cache

    def match(self, chain: Sequence[int], root: int) -> dict[int, int]:
        """Slot -> how many of the first blocks that worker holds; those that hold none are left out."""
        workers = self._workers
        found: dict[int, int] = {}
        still = workers.get(chain[0] ^ root, 0) if chain else 0
        depth = 0
        for hashed in chain:
            if not still:
                return found
            here = workers.get(hashed ^ root, 0)
            if here != still:
                here &= still
                _note(still ^ here, depth, found)
                still = here
            depth += 1
        _note(still, depth, found)
        return found

    def share(self) -> int:
        """How many blocks each worker may have, that all together keep the bound."""
        return max(1, self.most_blocks // max(1, len(self._caches)))

    def add(self, hashed: int, bit: int) -> None:
        """A worker that did not hold the block holds it now. For its `PrefixCache` alone, like `drop` and `free`."""
        workers = self._workers
        there = workers.get(hashed)
        workers[hashed] = bit if there is None else there | bit  # mostly one worker's own bit, one object for all
        self._held += 1

    def drop(self, hashed: int, bit: int) -> None:
        left = self._workers[hashed] & ~bit
        if left:
            self._workers[hashed] = left
        else:
            del self._workers[hashed]
        self._held -= 1

    def free(self, slot: int) -> None:
        self._caches[slot] = None
        while self._caches and self._caches[-1] is None:
            self._caches.pop()


class PrefixCache:
    """What one worker's prefix cache is taken to hold. In blocks: `capacity` is what its answers make it out to be,
    `room` what its engine says it has; None where that is not known."""

    __slots__ = ("_bit", "_blocks", "_gone", "_index", "capacity", "room", "slot")

    def __init__(self, index: PrefixIndex, slot: int) -> None:
        self._index = index
        self.slot = slot
        self._bit = 1 << slot
        self._blocks: OrderedDict[int, None] = OrderedDict()  # the least recently used first
        self._gone = False
        self.capacity: int | None = None
        self.room: int | None = None

    @property
    def index(self) -> PrefixIndex:
        return self._index

    def __len__(self) -> int:
        return len(self._blocks)

    def insert(self, chain: Sequence[int], root: int) -> None:
        """A prompt has been sent to this worker: it has, or is about to have, all of its blocks."""
        blocks, index = self._blocks, self._index
        for at in range(min(len(chain), self.most) - 1, -1, -1):
            hashed = chain[at] ^ root
            if hashed in blocks:
                blocks.move_to_end(hashed)
            else:
                blocks[hashed] = None
                index.add(hashed, self._bit)
        self.trim()

    def trim(self) -> None:
        """Forgets what is too much."""
        blocks, most = self._blocks, self.most
        while len(blocks) > most:
            hashed, _ = blocks.popitem(last=False)
            self._index.drop(hashed, self._bit)

    @property
    def most(self) -> int:
        """Blocks that it may have."""
        if self._gone:
            return 0
        own, room = self.capacity, self.room
        if room is None:
            room = BLOCKS_PER_WORKER if own is None else own
        if own is None or own > room:
            own = room
        return min(own, self._index.share())

    def limit(self, blocks: int) -> None:
        """It is taken to have room for so many."""
        self.capacity = min(max(blocks, FEWEST_BLOCKS), self._index.most_blocks)
        self.trim()

    def told(self, tokens: float) -> None:
        """Its engine says that it has room for so many, as `Ask` counts them."""
        self.room = int(min(tokens // self._index.block_tokens, self._index.most_blocks))
        self.trim()

    def clear(self) -> None:
        """It was restarted, or may have been."""
        for hashed in self._blocks:
            self._index.drop(hashed, self._bit)
        self._blocks.clear()

    def leave(self) -> None:
        """The worker is no longer there, and its slot another's; nothing more is kept here."""
        if self._gone:
            return
        self.clear()
        self._gone = True
        self._index.free(self.slot)


def _note(slots: int, depth: int, found: dict[int, int]) -> None:
    """Writes `depth` under each slot whose bit is set, unless it is 0."""
    if depth == 0 or not slots:
        return
    bits = bin(slots)
    top = len(bits) - 1
    at = bits.find("1", 2)
    while at >= 0:
        found[top - at] = depth
        at = bits.find("1", at + 1)
