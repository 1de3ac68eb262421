"""The waiting room under any order of coming, going, freeing and giving up: nobody is lost, no place is given twice."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.errors import NoTurn
from gateway.fleet.backend import Backend
from gateway.fleet.room import WaitingRoom
from gateway.protocol.usage import NO_USAGE, Usage
from gateway.routing.fair import Charge
from gateway.routing.line import Claim, Ticket
from tests.unit.gateway.fleet.contention import worker_of

LENGTH = 4
TENANTS = ("a", "b", "c")
usages = st.builds(Usage, st.integers(0, 500), st.just(0), st.integers(0, 500))


class Room(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.room = WaitingRoom()
        self.backends = [worker_of("w0", 1), worker_of("w1", 2), worker_of("w2", 1, model="code")]
        self.waiting: list[tuple[Ticket, list[Backend]]] = []
        self.promised: list[tuple[Ticket, list[Backend]]] = []  # given, and not yet taken
        self.running: list[tuple[Backend, Charge | None]] = []

    def told(self, ticket: Ticket, backends: list[Backend]) -> None:
        self.waiting.remove((ticket, backends))
        if ticket.state == "given":
            self.promised.append((ticket, backends))

    @rule(
        tenant=st.sampled_from(TENANTS),
        rank=st.integers(0, 2),
        weight=st.sampled_from([0.5, 1.0, 3.0]),
        output=st.integers(0, 300),
        which=st.sets(st.integers(0, 2), min_size=1),
    )
    def come(self, tenant: str, rank: int, weight: float, output: int, which: set[int]) -> None:
        backends = [self.backends[at] for at in sorted(which)]
        for backend in backends:
            if backend.up and not backend.queue.waiting and backend.has_room(self.now):
                backend.inflight += 1
                self.running.append((backend, None))
                return
        claim = Claim(tenant, weight, rank, 10, output)
        lowest = max((ticket.claim.rank for ticket, _ in self.waiting), default=-1)
        was = len(self.waiting)
        ticket = self.room.ticket(claim, backends, self.now)
        try:
            self.room.join(ticket, length=LENGTH, patience=60.0)
        except NoTurn as refused:
            if refused.code == "queue_full":
                assert was == LENGTH
                assert lowest <= rank  # else somebody would have had to go
            return
        assert 1 <= ticket.position <= was + 1
        self.waiting.append((ticket, backends))
        ticket.told = lambda: self.told(ticket, backends)
        if was == LENGTH:
            self.waiting = [(one, its) for one, its in self.waiting if one.state == "waiting"]
            assert lowest >= rank

    @precondition(lambda self: self.promised)
    @rule(data=st.data(), leaves=st.booleans())
    def take(self, data: st.DataObject, leaves: bool) -> None:
        ticket, backends = data.draw(st.sampled_from(self.promised))
        self.promised.remove((ticket, backends))
        if leaves:
            self.room.leave(ticket, backends, self.now)
            return
        backend = backends[ticket.place]
        backend.promised -= 1
        backend.inflight += 1
        self.running.append((backend, ticket.charge))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), usage=usages, failed=st.booleans(), seconds=st.floats(0.0, 5.0))
    def finish(self, data: st.DataObject, usage: Usage, failed: bool, seconds: float) -> None:
        self.now += seconds
        backend, charge = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        backend.inflight -= 1
        if charge is not None:
            if failed:
                charge.void()
            else:
                charge.settle(usage)
        backend.let_in(self.now)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), how=st.sampled_from(["expired", "left"]))
    def give_up(self, data: st.DataObject, how: str) -> None:
        ticket, backends = data.draw(st.sampled_from(self.waiting))
        if how == "left":
            self.room.leave(ticket, backends, self.now)
        else:
            ticket.end("expired")

    @rule(which=st.integers(0, 2), up=st.booleans())
    def change(self, which: int, up: bool) -> None:
        backend = self.backends[which]
        backend.up = up
        backend.let_in(self.now)

    @invariant()
    def nobody_is_lost_and_no_place_is_given_twice(self) -> None:
        assert self.room.waiting == len(self.waiting) <= LENGTH
        assert sum(self.room.crowd.of_class(rank) for rank in range(3)) == len(self.waiting)
        assert all(ticket.state == "waiting" for ticket, _ in self.waiting)
        for backend in self.backends:
            most = backend.worker.max_inflight
            assert most is not None
            assert backend.promised == sum(its[ticket.place] is backend for ticket, its in self.promised)
            assert backend.inflight == sum(on is backend for on, _ in self.running)
            assert backend.inflight + backend.promised <= most
            assert backend.queue.waiting == sum(backend in its for _, its in self.waiting)
            # No place stays empty while somebody waits for it.
            assert not (backend.queue.waiting and backend.up and backend.has_room(self.now))

    def teardown(self) -> None:
        """In the end everybody has had a turn, and the books are closed."""
        for backend in self.backends:
            backend.up = True
            backend.let_in(self.now)
        while self.promised or self.running:
            while self.promised:
                ticket, backends = self.promised.pop()
                backend = backends[ticket.place]
                backend.promised -= 1
                backend.inflight += 1
                self.running.append((backend, ticket.charge))
            backend, charge = self.running.pop()
            backend.inflight -= 1
            if charge is not None:
                charge.settle(NO_USAGE)
            backend.let_in(self.now)
        assert not self.waiting
        for model in ("chat", "code"):
            for rank in range(3):
                claim = Claim("a", 1.0, rank, 10, 10)
                account = self.room.account(model, claim)
                assert (account.start, account.contest.virtual) == (0.0, 0.0)


Room.TestCase.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
TestRoom = Room.TestCase
