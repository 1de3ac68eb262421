"""Lines and the crowd by themselves: whose turn it is, where one stands, and who has to go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.fair import Account, Contest
from gateway.routing.line import Claim, Crowd, Line, Ticket


class Place:
    """One model with two workers, and all contests for it."""

    def __init__(self) -> None:
        self.lines = [Line(), Line()]
        self.crowd = Crowd()
        self.contests = [Contest(), Contest(), Contest()]

    def account(self, tenant: str, rank: int = 1) -> Account:
        return self.contests[rank].account(tenant)

    def enter(self, tenant: str, rank: int = 1, *, weight: float = 1.0, cost: int = 100, only: int = -1) -> Ticket:
        lines = self.lines if only < 0 else [self.lines[only]]
        account = self.account(tenant, rank)
        ticket = Ticket(Claim(tenant, weight, rank, cost, 0), lines, [account] * len(lines), self.crowd)
        ticket.position = lines[0].position(account, ticket.claim)
        ticket.enter()
        return ticket

    def serve(self, line: int, count: int, tickets: list[Ticket]) -> list[str]:
        """Whose turn it was, one after another."""
        order = []
        for _ in range(count):
            before = [ticket for ticket in tickets if ticket.state == "waiting"]
            self.lines[line].give(0.0)
            order += [ticket.claim.tenant for ticket in before if ticket.state == "given"]
        return order


def test_turns_go_by_what_each_had_for_its_weight() -> None:
    place = Place()
    tickets = [place.enter("one") for _ in range(4)] + [place.enter("two", weight=2.0) for _ in range(8)]
    assert "".join(name[0] for name in place.serve(0, 12, tickets)) == "ottottottott"


def test_large_requests_are_fewer_turns() -> None:
    place = Place()
    tickets = [place.enter("large", cost=300) for _ in range(2)] + [place.enter("small") for _ in range(6)]
    assert place.serve(0, 8, tickets) == ["large", *["small"] * 3, "large", *["small"] * 3]


def test_a_tenants_own_requests_go_in_the_order_they_came() -> None:
    place = Place()
    first, second = place.enter("a"), place.enter("a")
    place.lines[1].give(0.0)
    assert [(first.state, first.place), (second.state, second.place)] == [("given", 1), ("waiting", -1)]
    assert [line.waiting for line in place.lines] == [1, 1]


def test_classes_go_in_order_whatever_was_served() -> None:
    place = Place()
    tickets = [place.enter("jobs", 2), place.enter("usual", 1), place.enter("chat", 0), place.enter("chat", 0)]
    assert [ticket.position for ticket in tickets] == [1, 1, 1, 2]
    assert place.serve(0, 4, tickets) == ["chat", "chat", "usual", "jobs"]


def test_a_line_gives_only_to_those_who_stand_in_it() -> None:
    place = Place()
    tickets = [place.enter("a", only=1), place.enter("b"), place.enter("c", only=0)]
    assert place.serve(0, 2, tickets) == ["b", "c"]
    assert [line.waiting for line in place.lines] == [0, 1]


@given(
    crowd=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), max_size=12),
    served=st.integers(0, 6),
    who=st.tuples(st.sampled_from("abcd"), st.integers(0, 2)),
)
def test_where_one_stands_is_when_it_will_go(crowd: list[tuple[str, int]], served: int, who: tuple[str, int]) -> None:
    """Whatever waits: as long as nobody comes, the position is the number of places given until its turn."""
    weights = {"a": 1.0, "b": 2.0, "c": 0.5, "d": 1.0}
    place = Place()
    tickets = [place.enter(tenant, rank, weight=weights[tenant]) for tenant, rank in crowd]
    place.serve(0, min(served, len(crowd)), tickets)
    tenant, rank = who
    last = place.enter(tenant, rank, weight=weights[tenant])
    turns = 0
    while last.state == "waiting":
        place.lines[0].give(0.0)
        turns += 1
    # With the same counter, who goes first depends on who began to wait; the position has the later one.
    assert last.position - 2 <= turns <= last.position


def test_what_has_ended_ends_no_other_way() -> None:
    place = Place()
    told: list[str] = []
    ticket = place.enter("a")
    ticket.told = lambda: told.append(ticket.state)
    ticket.end("expired")
    ticket.end("left")
    assert (told, ticket.state, place.crowd.waiting) == (["expired"], "expired", 0)


def to_displace(place: Place, tenant: str, rank: int = 1, weight: float = 1.0) -> Ticket | None:
    return place.crowd.to_displace(Claim(tenant, weight, rank, 1, 0))


def test_nobody_has_to_go_where_nobody_waits() -> None:
    assert to_displace(Place(), "a") is None


def test_the_last_come_of_whoever_takes_most_room_has_to_go() -> None:
    place = Place()
    tickets = [place.enter(tenant) for tenant in "aabbba"] + [place.enter("c", weight=0.1)]
    assert to_displace(place, "d") is tickets[6]  # a tenth of the weight, ten times the room
    tickets[6].end("left")
    assert to_displace(place, "d") is tickets[5]
    assert to_displace(place, "a") is None
    assert to_displace(place, "a", weight=2.0) is tickets[5]


def test_the_lowest_class_goes_first_and_never_for_a_lower_one() -> None:
    place = Place()
    chat, usual, jobs = place.enter("a", 0), place.enter("a", 1), place.enter("a", 2)
    assert to_displace(place, "b", 0) is jobs
    assert to_displace(place, "b", 1) is jobs
    jobs.end("left")
    assert to_displace(place, "b", 0) is usual
    assert to_displace(place, "b", 2) is None
    usual.end("left")
    assert to_displace(place, "b", 1) is None
    assert place.crowd.of_class(0) == 1
    chat.end("left")
