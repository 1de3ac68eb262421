"""What is known of one request while it is served; the story writes it, the settlement reads it."""

from __future__ import annotations

from typing import Literal

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


class Admitted:
    """A request that is understood, allowed and planned, and whose place in the limits is taken."""

    __slots__ = ("ask", "key", "lease", "plan", "request")

    def __init__(self, request: Request, key: Key, ask: Ask, plan: Plan, lease: Lease) -> None:
        self.request = request
        self.key = key
        self.ask = ask
        self.plan = plan
        self.lease = lease


class Trace:
    """Points in time are `time.monotonic()` seconds, except `started_at`, which is Unix time for the records."""

    # Written out: the `__init__` that a dataclass gets is not compiled, and costs a microsecond here.
    __slots__ = (
        "admitted",
        "answered_at",
        "ask",
        "asked",
        "cache",
        "cut",
        "dispatch",
        "error",
        "exchange",
        "first_at",
        "id",
        "key",
        "measured",
        "others",
        "queued",
        "request",
        "started_at",
        "table",
        "ticket",
        "tokens",
        "usage",
        "waited",
    )

    def __init__(
        self,
        id: str,
        exchange: Exchange,
        table: Table,
        started_at: float,
        key: Key | None = None,
        request: Request | None = None,
        error: GatewayError | None = None,
    ) -> None:
        self.id = id
        self.exchange = exchange
        self.table = table
        self.started_at = started_at
        self.key = key  # once authenticated
        self.request = request  # once understood
        self.ask: Ask | None = None  # once the router was asked
        self.admitted: Admitted | None = None
        self.dispatch: Dispatch | None = None  # the attempt under way, or the last one
        self.asked: int = 0  # workers, so far
        self.others: list[Attempt] = []  # the rows of attempts that gave no answer
        self.cache: CacheResult = "bypass"
        self.usage: Usage | None = None  # as the engine reported it
        self.measured: bool = False  # and that is of the whole answer
        self.tokens: int = 0  # of a stream's output, as seen
        self.first_at: float | None = None  # the first byte of a stream went to the client
        self.answered_at: float | None = None  # the answer began
        self.queued: float = 0.0  # seconds spent waiting for a worker with room
        self.ticket: Ticket | None = None  # of the last such wait
        self.waited: float = 0.0  # seconds spent waiting for workers and not for the gateway
        self.error = error
        self.cut: GatewayError | None = None  # why the gateway itself stopped it
