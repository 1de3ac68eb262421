"""The lines before full workers: who stands in which, who is next, and who has to go when there is no more room.

A request stands in the line of every worker that could take it, and leaves all of them with the first place it gets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from gateway.routing.fair import Account, Charge
from gateway.table import PRIORITIES

State = Literal["waiting", "given", "displaced", "expired", "left"]


class Claim(NamedTuple):
    """Who wants a place, and for how much work at most, in tokens. `rank` is the class, 0 goes first."""

    tenant: str
    weight: float
    rank: int
    prompt_tokens: int
    output_tokens: int


class Ticket:
    """One request that waits; it has an account in the contest of each line's workers.

    `told` is called once when the wait has ended; `place` then says in which of its lines it was given one, -1 if none.
    `position` (1 goes next) and `expected`, the seconds it will take, are what was to be seen when it came.
    """

    __slots__ = ("_accounts", "_crowd", "_lines", "charge", "claim", "expected", "place", "position", "state", "told")

    def __init__(self, claim: Claim, lines: list[Line], accounts: list[Account], crowd: Crowd) -> None:
        self.claim = claim
        self._lines = lines
        self._accounts = accounts  # of each line; those of workers of one model are the same
        self._crowd = crowd
        self.state: State = "waiting"
        self.place = -1
        self.charge: Charge | None = None
        self.position = 0
        self.expected: float | None = None
        self.told: Callable[[], None] | None = None

    def enter(self) -> None:
        claim = self.claim
        for at, line in enumerate(self._lines):
            line.add(self, self._accounts[at])
        for account in dict.fromkeys(self._accounts):
            account.arrived(account.expected_cost(claim.prompt_tokens, claim.output_tokens) / claim.weight)
        self._crowd.add(self)

    def give(self, line: Line, now: float) -> None:
        """The place that came free before `line`."""
        claim = self.claim
        self.place = self._lines.index(line)
        account = self._accounts[self.place]
        cost = account.expected_cost(claim.prompt_tokens, claim.output_tokens)
        self.charge = account.charge(cost, claim.weight, now)
        self.end("given")

    def end(self, state: State) -> None:
        """The wait is over; nothing happens when it was over already."""
        if self.state != "waiting":
            return
        self.state = state
        for at, line in enumerate(self._lines):
            line.remove(self, self._accounts[at])
        for account in dict.fromkeys(self._accounts):
            account.left()
        self._crowd.remove(self)
        if self.told is not None:
            self.told()


Tickets = dict[Ticket, None]  # in the order they came


class Line:
    """Before one worker."""

    __slots__ = ("_classes", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self._classes: tuple[dict[Account, Tickets], ...] = tuple({} for _ in PRIORITIES)

    def add(self, ticket: Ticket, account: Account) -> None:
        tickets = self._classes[ticket.claim.rank].get(account)
        if tickets is None:
            tickets = self._classes[ticket.claim.rank][account] = {}
        tickets[ticket] = None
        self.waiting += 1

    def remove(self, ticket: Ticket, account: Account) -> None:
        accounts = self._classes[ticket.claim.rank]
        tickets = accounts[account]
        del tickets[ticket]
        if not tickets:
            del accounts[account]
        self.waiting -= 1

    def give(self, now: float) -> None:
        """To the longest waiting request of the tenant that has had least, in the first class where anybody waits.
        Somebody does. Among equals, to who began to wait before the others."""
        interactive, standard, batch = self._classes
        accounts = interactive or standard or batch
        best: Account | None = None
        least = 0.0
        for account in accounts:
            if best is None or account.counter < least:
                best, least = account, account.counter
        assert best is not None
        next(iter(accounts[best])).give(self, now)

    def position(self, account: Account, claim: Claim) -> int:
        """Where one more request would stand, 1 for the next to go, if nobody came after it."""
        ahead = 0
        for before in range(claim.rank):
            for tickets in self._classes[before].values():
                ahead += len(tickets)
        accounts = self._classes[claim.rank]
        own = len(accounts.get(account, ()))
        step = account.expected_cost(claim.prompt_tokens, claim.output_tokens) / claim.weight
        turn = account.start + own * step
        for other, tickets in accounts.items():
            if other is not account and other.counter <= turn:
                ahead += min(len(tickets), 1 + int((turn - other.counter) / other.step))
        return ahead + own + 1


class Crowd:
    """All who wait in one process, of every tenant in every line."""

    __slots__ = ("_classes", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self._classes: tuple[dict[str, Tickets], ...] = tuple({} for _ in PRIORITIES)

    def add(self, ticket: Ticket) -> None:
        tickets = self._classes[ticket.claim.rank].get(ticket.claim.tenant)
        if tickets is None:
            tickets = self._classes[ticket.claim.rank][ticket.claim.tenant] = {}
        tickets[ticket] = None
        self.waiting += 1

    def remove(self, ticket: Ticket) -> None:
        tenants = self._classes[ticket.claim.rank]
        tickets = tenants[ticket.claim.tenant]
        del tickets[ticket]
        if not tickets:
            del tenants[ticket.claim.tenant]
        self.waiting -= 1

    def of_class(self, rank: int) -> int:
        return sum([len(tickets) for tickets in self._classes[rank].values()])

    def to_displace(self, claim: Claim) -> Ticket | None:
        """Who has to go for `claim` when no more may wait: the last come of the tenant that takes most room for its
        weight, in the lowest class. In its own class only where that tenant has more than it would have itself."""
        for rank in range(len(PRIORITIES) - 1, claim.rank - 1, -1):
            tenants = self._classes[rank]
            if not tenants:
                continue
            most, crowded = -1.0, ""
            for tenant, tickets in tenants.items():
                room = len(tickets) / next(iter(tickets)).claim.weight
                if room > most:
                    most, crowded = room, tenant
            own = len(tenants.get(claim.tenant, ()))
            if rank == claim.rank and (own + 1) / claim.weight >= most:
                return None
            return next(reversed(tenants[crowded]))
        return None
