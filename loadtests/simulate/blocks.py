"""Prefix caches by the block: what an engine holds, and what a gateway thinks that it holds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence


class Index:
    """Blocks by the time of their last use, the oldest forgotten first. A block's number is also that of all before."""

    __slots__ = ("_blocks", "capacity")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._blocks)

    def matched(self, blocks: Sequence[int]) -> int:
        """How many of them, from the beginning, it holds."""
        held = self._blocks
        count = 0
        for block in blocks:
            if block not in held:
                break
            count += 1
        return count

    def use(self, blocks: Sequence[int]) -> None:
        """The end of a prompt is forgotten before its beginning."""
        held = self._blocks
        for block in reversed(blocks):
            held[block] = None
            held.move_to_end(block)
        while len(held) > self.capacity:
            held.popitem(last=False)


class Cache:
    """An engine's KV cache: blocks in use, with how many use each, and unused ones that stay until there is need."""

    __slots__ = ("_nameless", "_unused", "_used", "capacity")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._used: dict[int, int] = {}
        self._unused: OrderedDict[int, None] = OrderedDict()
        self._nameless = 0  # of answers

    @property
    def in_use(self) -> int:
        """Blocks that cannot be given to others."""
        return len(self._used) + self._nameless

    def __len__(self) -> int:
        return len(self._used) + len(self._unused)

    def matched(self, blocks: Sequence[int]) -> int:
        count = 0
        for block in blocks:
            if block not in self._used and block not in self._unused:
                break
            count += 1
        return count

    def take(self, blocks: Sequence[int], nameless: int) -> bool:
        """Room for a prompt's blocks and its answer's; False, and nothing is taken, where there is none."""
        used = self._used
        wanted = nameless + sum(1 for block in blocks if block not in used)
        if self.in_use + wanted > self.capacity:
            return False
        for block in blocks:
            used[block] = used.get(block, 0) + 1
            self._unused.pop(block, None)
        self._nameless += nameless
        while self.in_use + len(self._unused) > self.capacity:
            self._unused.popitem(last=False)
        return True

    def give_back(self, blocks: Sequence[int], nameless: int) -> None:
        """They stay for those who come later; the end of a prompt goes before its beginning."""
        used = self._used
        for block in reversed(blocks):
            used[block] -= 1
            if not used[block]:
                del used[block]
                self._unused[block] = None
        self._nameless -= nameless
