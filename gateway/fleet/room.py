"""Where requests wait when every worker that could take them is full: by turns, bounded in number and in time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from gateway.clock import monotonic
from gateway.errors import GatewayError, NoTurn, Overloaded
from gateway.fleet.backend import Backend
from gateway.routing.fair import Account, Contest
from gateway.routing.line import Claim, Crowd, Ticket

LONGEST_RETRY_AFTER = 60.0
FASTEST_TURNOVER = 1e-6  # seconds

Refusal = Literal[
    "full",  # as many wait as may, and none of them has to make room for it
    "displaced",  # it had to make room for another
    "too_long",  # its turn would come too late
    "expired",  # its turn has not come in time
    "down",  # nor has any of its workers been there at the end
]
REFUSALS: tuple[Refusal, ...] = ("full", "displaced", "too_long", "expired", "down")


class WaitingRoom:
    """One per process. A request waits for all workers it may go to at once and takes the first place it is given.

    Whose turn it is decides each model's contest, one for each class (`routing/fair`, `routing/line`).
    """

    def __init__(self) -> None:
        self.crowd = Crowd()
        self.refused: Counter[tuple[Refusal, int]] = Counter()  # by why, and class
        self._contests: dict[tuple[str, int], Contest] = {}  # by model and class

    @property
    def waiting(self) -> int:
        return self.crowd.waiting

    def ticket(self, claim: Claim, backends: Sequence[Backend], now: float) -> Ticket:
        """For a place on any of the backends, which are all full, with what is to be foreseen of its wait. It holds
        nothing until it is used to `join`, which is to be done at once."""
        accounts = [self.account(backend.worker.model, claim) for backend in backends]
        ticket = Ticket(claim, [backend.queue for backend in backends], accounts, self.crowd)
        ticket.position, ticket.expected = _foreseen(claim, backends, accounts, now)
        return ticket

    def join(self, ticket: Ticket, *, length: int, patience: float) -> None:
        """Raises `NoTurn` when its turn would not come within `patience` seconds, and when `length` are waiting already
        of whom none has to go for it."""
        claim = ticket.claim
        if ticket.expected is not None and ticket.expected > patience:
            raise self._refused("too_long", claim, ticket.expected)
        displaced: Ticket | None = None
        if self.crowd.waiting >= length:
            displaced = self.crowd.to_displace(claim)
            if displaced is None:
                raise self._refused("full", claim, ticket.expected)
        ticket.enter()
        if displaced is not None:
            displaced.end("displaced")

    async def turn(self, ticket: Ticket, backends: Sequence[Backend], patience: float) -> None:
        """Waits until the ticket has a place, whose dispatch must be opened before anything else runs.

        Raises `NoTurn`, or `Overloaded` when all backends are down, if it has none after `patience` seconds, and
        `NoTurn` when it had to go for another. Being cancelled gives the place back.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        def tell() -> None:
            if not waiter.done():  # else it has been cancelled, and is about to hear of it
                waiter.set_result(None)

        ticket.told = tell
        if ticket.state != "waiting":
            tell()
        timer = loop.call_later(patience, ticket.end, "expired")
        try:
            await waiter
        except asyncio.CancelledError:
            self.leave(ticket, backends, monotonic())
            raise
        finally:
            timer.cancel()
            ticket.told = None
        if ticket.state == "given":
            backends[ticket.place].promised -= 1
            return
        claim = ticket.claim
        expected = self.ticket(claim, backends, monotonic()).expected  # for another try
        if ticket.state == "displaced":
            raise self._refused("displaced", claim, expected)
        if any(backend.up for backend in backends):
            raise self._refused("expired", claim, max(patience, expected or 0.0))
        raise self._refused("down", claim, None)

    def leave(self, ticket: Ticket, backends: Sequence[Backend], now: float) -> None:
        """Its client has gone, maybe in the same moment in which it was given a place."""
        ticket.end("left")
        if ticket.state == "given":
            assert ticket.charge is not None
            ticket.charge.void()
            backend = backends[ticket.place]
            backend.promised -= 1
            backend.let_in(now)

    def account(self, model: str, claim: Claim) -> Account:
        place = (model, claim.rank)
        contest = self._contests.get(place)
        if contest is None:
            contest = self._contests[place] = Contest()
        return contest.account(claim.tenant)

    def _refused(self, why: Refusal, claim: Claim, expected: float | None) -> GatewayError:
        self.refused[why, claim.rank] += 1
        seconds = min(max(1.0, expected or 0.0), LONGEST_RETRY_AFTER)
        if why == "down":
            return Overloaded("Every worker that could take this request is away.", retry_after=seconds)
        if why == "full" or why == "displaced":
            return NoTurn(
                "Every worker that could take this request is full, and so is the queue before them: its places are "
                "others', by their share and priority. Try again later, or send fewer at a time.",
                retry_after=seconds,
            )
        return NoTurn(
            "Every worker that could take this request is full, and its turn does not come in the time it may wait. "
            "Try again later, or send fewer at a time.",
            code="queue_wait_too_long",
            retry_after=seconds,
        )


def _foreseen(
    claim: Claim, backends: Sequence[Backend], accounts: Sequence[Account], now: float
) -> tuple[int, float | None]:
    """Where one more would stand, 1 for the next to go, and the seconds until its turn; None while no pace is known.

    By the pace at which places come free, and by that at which its tenant is given them: the latter also knows of those
    who come later and go first."""
    longest, account = backends[0], accounts[0]
    rate = 0.0  # places a second
    known = True
    for at, backend in enumerate(backends):
        if backend.queue.waiting > longest.queue.waiting:
            longest, account = backend, accounts[at]
        seconds = backend.turnover.seconds(now)
        if seconds is None:
            known = False
        else:
            rate += 1.0 / max(seconds, FASTEST_TURNOVER)
    position = longest.queue.position(account, claim)
    if not known:
        return position, None
    own = account.turnover.seconds(now) or 0.0
    return position, max(position / rate, (account.waiting + 1) * own)
