"""Workers, clients and the waiting room in virtual time: what an hour of contention comes to, in seconds.

The gate is the real one; the only thing made up is how long a worker takes for a request.
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from random import Random

from gateway.errors import GatewayError
from gateway.fleet.backend import Backend
from gateway.fleet.room import WaitingRoom
from gateway.protocol.usage import Usage
from gateway.routing.fair import cost
from gateway.routing.line import Claim, Ticket
from tests.unit.gateway import stories

PROMPT_SECONDS = 0.0002  # for a token, on a seat of its own
OUTPUT_SECONDS = 0.01


@dataclass(frozen=True)
class Sender:
    """A tenant, and what it sends: prompts and outputs of these lengths on average, in one class."""

    name: str
    weight: float = 1.0
    rank: int = 1
    prompt_tokens: int = 200
    output_tokens: int = 100
    most_output_tokens: int = 256  # what its requests ask for at most

    def usage(self, random: Random) -> Usage:
        """Lengths between half and one and a half of the average, a tenth of the prompts from the cache."""
        prompt, output = (int(mean * random.uniform(0.5, 1.5)) for mean in (self.prompt_tokens, self.output_tokens))
        return Usage(prompt, prompt // 10, min(output, self.most_output_tokens))


@dataclass
class Tally:
    """What one tenant has come to."""

    served: float = 0.0  # cost
    answers: int = 0
    refused: int = 0
    places: list[float] = field(default_factory=list[float])  # when it got one
    foreseen: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])  # seconds: expected, true


class World:
    def __init__(
        self,
        seats: int = 8,
        workers: int = 1,
        *,
        length: int = 64,
        patience: float = 30.0,
        fair: bool = True,
        seed: int = 0,
    ) -> None:
        self.now = 0.0
        self.random = Random(seed)
        self.room = WaitingRoom()
        self.backends = [worker_of(f"w{number}", seats) for number in range(workers)]
        self.tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self.busy = 0.0  # seconds, of all seats
        self._length = length
        self._patience = patience
        self._fair = fair  # else everybody is the same tenant, and so first come, first served
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heapq.heappop(self._events)
            event()
        self.now = until

    def after(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), event))

    # Clients

    def open_loop(self, sender: Sender, per_second: float, *, begin: float = 0.0, end: float = float("inf")) -> None:
        """Poisson arrivals, whatever becomes of them."""

        def arrive() -> None:
            if self.now < end:
                self.ask(sender)
                self.after(self.random.expovariate(per_second), arrive)

        self.after(begin - self.now + self.random.expovariate(per_second), arrive)

    def closed_loop(self, sender: Sender, clients: int, *, begin: float = 0.0, end: float = float("inf")) -> None:
        """Each sends its next request when it has its answer, or a little after a refusal."""

        def again(answered: bool) -> None:
            if self.now < end:
                self.after(0.001 if answered else 0.5, lambda: self.ask(sender, again))

        for number in range(clients):
            self.after(begin - self.now + number * 0.001, lambda: self.ask(sender, again))

    def ask(self, sender: Sender, then: Callable[[bool], None] = lambda _: None) -> Ticket | None:
        """One request; the ticket if it has to wait."""
        usage, tally = sender.usage(self.random), self.tallies[sender.name]
        for backend in self.backends:
            if not backend.queue.waiting and backend.has_room(self.now):
                self._serve(sender, backend, None, usage, then)
                return None
        claim = Claim(
            sender.name if self._fair else "everybody",
            sender.weight if self._fair else 1.0,
            sender.rank,
            usage.prompt_tokens,
            sender.most_output_tokens,
        )
        began = self.now
        try:
            ticket = self.room.ticket(claim, self.backends, began)
            self.room.join(ticket, length=self._length, patience=self._patience)
        except GatewayError:
            tally.refused += 1
            then(False)
            return None

        def told() -> None:
            if ticket.state != "given":
                tally.refused += 1
                then(False)
                return
            backend = self.backends[ticket.place]
            backend.promised -= 1
            if ticket.expected is not None:
                tally.foreseen.append((ticket.expected, self.now - began))
            self._serve(sender, backend, ticket, usage, then)

        ticket.told = told
        self.after(self._patience, lambda: ticket.end("expired"))
        return ticket

    def _serve(
        self, sender: Sender, backend: Backend, ticket: Ticket | None, usage: Usage, then: Callable[[bool], None]
    ) -> None:
        tally = self.tallies[sender.name]
        tally.places.append(self.now)
        backend.inflight += 1
        seconds = usage.prompt_tokens * PROMPT_SECONDS + usage.output_tokens * OUTPUT_SECONDS

        def done() -> None:
            backend.inflight -= 1
            self.busy += seconds
            tally.answers += 1
            tally.served += cost(usage)
            if ticket is not None and ticket.charge is not None:
                ticket.charge.settle(usage)
            backend.let_in(self.now)
            then(True)

        self.after(seconds, done)

    # What it came to

    @property
    def served(self) -> float:
        return sum(tally.served for tally in self.tallies.values())

    def shares(self, *senders: Sender) -> Iterator[float]:
        """What each was served for its weight."""
        return (self.tallies[sender.name].served / sender.weight for sender in senders)


def worker_of(name: str, seats: int, model: str = "chat") -> Backend:
    backend = stories.backend()
    backend.worker = replace(backend.worker, name=name, model=model, max_inflight=seats)
    return backend


def jain(shares: list[float]) -> float:
    """1 when all have the same, 1/n when one has everything (Jain, Chiu and Hawe 1984)."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))
