"""What is known of one request while it is served; the story writes it, the settlement reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from gateway.dispatch import Dispatch
from gateway.downstream.exchange import Exchange
from gateway.errors import GatewayError
from gateway.ledger.record import Attempt
from gateway.protocol.request import Request
from gateway.protocol.usage import Usage
from gateway.routing.line import Ticket
from gateway.routing.types import Ask, Plan
from gateway.table import Key, Table
from gateway.tenancy.limits import Lease

CacheResult = Literal["hit", "miss", "bypass"]


class Admitted(NamedTuple):
    """A request that is understood, allowed and planned, and whose place in the limits is taken."""

    request: Request
    key: Key
    ask: Ask
    plan: Plan
    lease: Lease


@dataclass(slots=True)
class Trace:
    """Points in time are `time.monotonic()` seconds, except `started_at`, which is Unix time for the records."""

    id: str
    exchange: Exchange
    table: Table
    started_at: float
    key: Key | None = None  # once authenticated
    request: Request | None = None  # once understood
    ask: Ask | None = None  # once the router was asked
    admitted: Admitted | None = None
    dispatch: Dispatch | None = None  # the attempt under way, or the last one
    asked: int = 0  # workers, so far
    others: list[Attempt] = field(default_factory=list[Attempt])  # the rows of attempts that gave no answer
    cache: CacheResult = "bypass"
    usage: Usage | None = None  # as the engine reported it
    measured: bool = False  # and that is of the whole answer
    tokens: int = 0  # of a stream's output, as seen
    first_at: float | None = None  # the first byte of a stream went to the client
    answered_at: float | None = None  # the answer began
    queued: float = 0.0  # seconds spent waiting for a worker with room
    ticket: Ticket | None = None  # of the last such wait
    waited: float = 0.0  # seconds spent waiting for workers and not for the gateway
    error: GatewayError | None = None
    cut: GatewayError | None = None  # why the gateway itself stopped it
