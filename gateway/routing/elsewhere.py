"""What other gateways do on the same workers, as they say themselves. No IO, no clock.

Each says what it has sent where and which of it has had its first token (`News`), beside how many requests it has in
flight on each worker. What others say of their prompts goes into the workers' own lines (`account.Foreign`) and prefix
indices, so that scores see one queue, whoever sent it. A message that is lost shows by its number: what is still held
of that gateway is let go, and what it says next counts. Who has been silent for SILENT_SECONDS counts for nothing:
without the others each decides by its own account and by what polls say, as if it were alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import orjson

from gateway.routing.account import Foreign, Place
from gateway.routing.types import Step, WorkerView

SILENT_SECONDS = 1.0
LEAST_TOKENS = 256  # of a prompt: shorter ones hold nobody up, and there may be very many
MOST_EVENTS = 1_000  # in one message: what happens beyond is not told
MOST_HASHES = 4_096  # of prompts in one message
MOST_GATEWAYS = 256
MOST_OPEN = 20_000  # prompts of one gateway, before their first token
_WORD = 1 << 64
_MOST_MS = 3_600_000


class Sent(NamedTuple):
    """A prompt that was sent to a worker. Ages and dues are milliseconds, to the past and to the future."""

    url: str  # of the worker: the same to all gateways
    number: int
    age_ms: int
    uncached_tokens: int
    due_ms: int  # until its first token, where its answer shows none; else -1
    root: int
    chain: Sequence[int]


class Passed(NamedTuple):
    """It is through prefill, or has ended without."""

    url: str
    number: int
    age_ms: int


class Message(NamedTuple):
    """`number` counts those of one gateway, and `inflight` is by worker."""

    gateway: str
    number: int
    inflight: Mapping[str, int]
    events: Sequence[Sent | Passed]


class News:
    """What one gateway has to tell of its own attempts, until it tells. Times are seconds on its clock."""

    __slots__ = ("_events", "_hashes", "_number")

    def __init__(self) -> None:
        self._events: list[tuple[float, Sent | Passed]] = []
        self._hashes = 0
        self._number = 0

    def __bool__(self) -> bool:
        return bool(self._events)

    def sent(self, url: str, place: Place, step: Step) -> int:
        """What to call the attempt when it has `passed`; 0 when it is not told of."""
        events = self._events
        if (step.prompt is None and place.uncached_tokens < LEAST_TOKENS) or len(events) >= MOST_EVENTS:
            return 0
        chain: list[int] = [] if step.prompt is None else step.prompt.chain
        if self._hashes + len(chain) > MOST_HASHES:
            chain = []
        self._hashes += len(chain)
        self._number = number = self._number + 1
        at = place.opened_at
        due = -1 if place.due > at + _MOST_MS / 1000 else int((place.due - at) * 1000)
        events.append((at, Sent(url, number, 0, place.uncached_tokens, due, step.root if chain else 0, chain)))
        return number

    def passed(self, url: str, number: int, now: float) -> None:
        if len(self._events) < MOST_EVENTS:
            self._events.append((now, Passed(url, number, 0)))

    def take(self, now: float) -> list[Sent | Passed]:
        """Everything that is new."""
        events, self._events, self._hashes = self._events, [], 0
        return [one._replace(age_ms=max(0, int((now - at) * 1000))) for at, one in events]


def said(message: Message) -> bytes:
    return orjson.dumps([message.gateway, message.number, message.inflight, [list(one) for one in message.events]])


def heard(message: bytes) -> Message:
    """Raises ValueError for what is no message of this version."""
    found: Any = orjson.loads(message)
    gateway, number, inflight, events = _list(found, 4)
    if not isinstance(gateway, str) or not isinstance(inflight, dict) or not isinstance(events, list):
        raise ValueError("no message of a gateway")
    read = [_event(one) for one in cast("list[Any]", events)]
    if len(read) > MOST_EVENTS or sum(len(one.chain) for one in read if isinstance(one, Sent)) > MOST_HASHES:
        raise ValueError("more than a message may have")
    counts = {url: _count(count) for url, count in cast("dict[str, Any]", inflight).items()}
    return Message(gateway, _count(number), counts, read)


class _Gateway:
    """Another one."""

    __slots__ = ("at", "inflight", "number", "open")

    def __init__(self) -> None:
        self.at = 0.0  # when it was heard
        self.number = -1  # of its last message
        self.inflight: Mapping[str, int] = {}
        self.open: dict[int, Foreign] = {}

    def let_go(self, now: float) -> None:
        for one in self.open.values():
            one.passed(now)
        self.open.clear()


class Elsewhere:
    """All others, as far as they have been heard of. `view(url)` is the worker there, where this gateway has it too.
    Times are seconds on this gateway's clock."""

    def __init__(self, own: str, view: Callable[[str], WorkerView | None]) -> None:
        self._own = own
        self._view = view
        self._others: dict[str, _Gateway] = {}

    def __len__(self) -> int:
        """How many others there are."""
        return len(self._others)

    def hear(self, message: bytes, now: float) -> None:
        """Raises ValueError for what is no message; one's own says nothing new."""
        said = heard(message)
        if said.gateway == self._own:
            return
        other = self._others.get(said.gateway)
        if other is None:
            if len(self._others) >= MOST_GATEWAYS:
                return
            other = self._others[said.gateway] = _Gateway()
        elif said.number != other.number + 1:
            other.let_go(now)
        other.at, other.number, other.inflight = now, said.number, said.inflight
        for event in said.events:
            at = now - event.age_ms / 1000
            if isinstance(event, Sent):
                self._sent(other, event, at)
            elif (one := other.open.pop(event.number, None)) is not None:
                one.passed(at)

    def inflight(self, now: float) -> dict[str, int]:
        """By worker; where others have nothing it is left out. Those that are silent are let go."""
        for name in [name for name, other in self._others.items() if now - other.at > SILENT_SECONDS]:
            self._others.pop(name).let_go(now)
        sums: dict[str, int] = {}
        for other in self._others.values():
            for url, count in other.inflight.items():
                sums[url] = sums.get(url, 0) + count
        return sums

    def _sent(self, other: _Gateway, event: Sent, at: float) -> None:
        view = self._view(event.url)
        if view is None or len(other.open) >= MOST_OPEN:
            return
        due = None if event.due_ms < 0 else at + event.due_ms / 1000
        other.open[event.number] = Foreign(view, event.uncached_tokens, at, due)
        if event.chain and view.prefixes is not None:
            view.prefixes.insert(event.chain, event.root)


def _event(written: Any) -> Sent | Passed:
    if isinstance(written, list) and len(cast("list[Any]", written)) == 3:
        url, number, age = cast("list[Any]", written)
        return Passed(_text(url), _count(number), _milliseconds(age))
    url, number, age, uncached, due, root, chain = _list(written, 7)
    if not isinstance(chain, list):
        raise ValueError("no chain of hashes")
    hashes = [_word(hashed) for hashed in cast("list[Any]", chain)]
    due_ms = -1 if due == -1 else _milliseconds(due)
    return Sent(_text(url), _count(number), _milliseconds(age), _count(uncached), due_ms, _word(root), hashes)


def _list(written: Any, length: int) -> list[Any]:
    if not isinstance(written, list) or len(cast("list[Any]", written)) != length:
        raise ValueError("no message of a gateway")
    return cast("list[Any]", written)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("no URL")
    return value


def _count(value: Any) -> int:
    return _within(value, 1 << 53)


def _milliseconds(value: Any) -> int:
    return _within(value, _MOST_MS + 1)


def _word(value: Any) -> int:
    return _within(value, _WORD)


def _within(value: Any, bound: int) -> int:
    if type(value) is not int or not 0 <= value < bound:
        raise ValueError("no such number")
    return value
