"""Who gets what of full workers, in virtual time: the promises about fair shares, and what they cost."""

from __future__ import annotations

from statistics import median

import pytest

from tests.unit.gateway.fleet.contention import Sender, World, jain

CAPACITY = 8 / 1.04  # requests a second of the default sender's, on 8 seats
SPAN = 300.0  # seconds
SEEDS = range(3)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("hot", [0, 1], ids=["the lighter is hot", "the heavier is hot"])
def test_two_tenants_are_served_by_their_weights_whoever_sends_more(hot: int, seed: int) -> None:
    senders = [Sender("one", weight=1.0), Sender("two", weight=2.0)]
    world = World(seed=seed)
    for at, sender in enumerate(senders):
        world.open_loop(sender, CAPACITY * (10.0 if at == hot else 1.0))
    world.run(SPAN)
    one, two = world.shares(*senders)
    assert two == pytest.approx(one, rel=0.05)


def test_without_the_shares_the_hot_tenant_would_have_nearly_all() -> None:
    senders = [Sender("one", weight=1.0), Sender("two", weight=2.0)]
    world = World(fair=False)
    world.open_loop(senders[0], CAPACITY * 10)
    world.open_loop(senders[1], CAPACITY)
    world.run(SPAN)
    one, two = world.shares(*senders)
    assert two < one / 10


def test_tenants_whose_requests_differ_are_served_the_same_cost() -> None:
    """One asks for up to 4,096 tokens and uses a few, one sends long prompts, one has long answers."""
    senders = [
        Sender("careless", most_output_tokens=4096),
        Sender("reader", prompt_tokens=6000, output_tokens=20),
        Sender("writer", prompt_tokens=50, output_tokens=800, most_output_tokens=1600),
    ]
    world = World()
    for sender in senders:
        world.closed_loop(sender, 16)
    world.run(2 * SPAN)
    least, _, most = sorted(world.shares(*senders))
    assert least > 0.95 * most


@pytest.mark.parametrize("seed", SEEDS)
def test_ten_tenants_have_a_jain_index_above_95_percent(seed: int) -> None:
    senders = [
        Sender(f"t{n}", weight=1.0 + n % 3, prompt_tokens=100 * (n + 1), output_tokens=30 * (n + 1)) for n in range(10)
    ]
    world = World(workers=2, seed=seed)
    for n, sender in enumerate(senders):
        world.open_loop(sender, CAPACITY * (1 + n % 4))
    world.run(SPAN)
    assert jain(list(world.shares(*senders))) >= 0.95


def test_it_costs_no_throughput() -> None:
    senders = [Sender(f"t{n}", weight=1.0 + n) for n in range(10)]
    worlds = [World(fair=fair, workers=2) for fair in (True, False)]
    for world in worlds:
        for sender in senders:
            world.open_loop(sender, CAPACITY / 2)
        world.run(SPAN)
    fair, fifo = worlds
    assert fair.served >= 0.99 * fifo.served
    assert fair.busy >= 0.99 * 2 * 8 * SPAN


def test_a_tenant_alone_has_everything() -> None:
    world, alone = World(), Sender("alone", weight=0.1)
    world.closed_loop(Sender("elsewhere", weight=100.0), 3, end=SPAN / 2)
    world.closed_loop(alone, 12, begin=SPAN / 2)
    world.run(SPAN)
    assert world.tallies["alone"].served > 0.99 * CAPACITY * SPAN / 2 * (200 * 0.91 + 200)


def test_what_others_do_not_use_is_shared() -> None:
    """The one that wants less than its share has all it wants."""
    modest, greedy, greedier = Sender("modest"), Sender("greedy"), Sender("greedier")
    world = World()
    world.open_loop(modest, CAPACITY / 10)
    world.open_loop(greedy, CAPACITY)
    world.open_loop(greedier, 5 * CAPACITY)
    world.run(SPAN)
    assert world.tallies["modest"].refused == 0
    one, two = world.shares(greedy, greedier)
    assert two == pytest.approx(one, rel=0.05)


def gained(world: World, sender: Sender, seconds: float) -> float:
    before = world.tallies[sender.name].served
    world.run(world.now + seconds)
    return world.tallies[sender.name].served - before


def test_who_was_away_has_saved_nothing_up() -> None:
    stayed, away = Sender("stayed"), Sender("away")
    world = World()
    for sender in (stayed, Sender("another"), away):
        world.closed_loop(sender, 10, end=100.0 if sender is away else 700.0)
    world.closed_loop(away, 30, begin=600.0)
    world.run(610.0)
    before = world.tallies["away"].served
    mine = gained(world, stayed, 60.0)
    assert world.tallies["away"].served - before == pytest.approx(mine, rel=0.15)


def test_who_took_what_nobody_wanted_owes_nothing() -> None:
    """Alone it had every seat for ten minutes, with more of its own waiting for them in the second case."""
    for clients in (8, 20):
        early, late = Sender("early"), Sender("late")
        world = World()
        world.closed_loop(early, clients, end=600.0)
        world.closed_loop(early, 20, begin=599.0)
        world.closed_loop(late, 20, begin=600.0)
        world.run(602.0)
        before = world.tallies["late"].served
        mine = gained(world, early, 30.0)
        assert world.tallies["late"].served - before == pytest.approx(mine, rel=0.15)


def test_a_contest_that_is_over_is_forgotten() -> None:
    one, two = Sender("one"), Sender("two", weight=3.0)
    world = World()
    world.open_loop(one, 5 * CAPACITY, end=60.0)
    world.open_loop(two, CAPACITY / 2, end=60.0)
    world.run(120.0)  # all is done
    for _ in range(8):
        world.ask(Sender("filler"))
    first = [world.ask(sender) for sender in (one, two)]
    assert [ticket and ticket.position for ticket in first] == [1, 2]  # in the order they came


def test_an_interactive_request_overtakes_a_full_batch_queue() -> None:
    world = World(length=50)
    batch, chat = Sender("jobs", rank=2), Sender("chat", rank=0)
    world.closed_loop(batch, 200)
    world.run(60.0)
    assert world.room.waiting == 50
    ticket = world.ask(chat)
    assert ticket is not None
    assert (ticket.position, world.room.waiting) == (1, 50)  # the last of the batch had to go for it
    places = len(world.tallies["jobs"].places)
    world.run(62.0)
    assert ticket.state == "given"
    assert world.tallies["chat"].answers <= 1
    next_batch = [at for at in world.tallies["jobs"].places[places:] if at <= world.tallies["chat"].places[0]]
    assert next_batch == []  # nobody between


def test_classes_go_in_order_and_what_is_left_is_the_lower_ones() -> None:
    world = World()
    chat, usual, batch = Sender("chat", rank=0), Sender("usual", rank=1), Sender("jobs", rank=2)
    world.open_loop(chat, CAPACITY / 4)
    world.open_loop(usual, CAPACITY / 4)
    world.open_loop(batch, 4 * CAPACITY)
    world.run(SPAN)
    assert world.tallies["chat"].refused == world.tallies["usual"].refused == 0
    chats, usuals, jobs = world.shares(chat, usual, batch)
    assert chats == pytest.approx(usuals, rel=0.1)
    assert jobs == pytest.approx(2 * usuals, rel=0.15)


@pytest.mark.parametrize("clients", [(20, 20), (40, 4), (30, 2, 2, 2, 2, 2)], ids=str)
def test_a_foreseen_wait_is_right_to_a_factor_of_two(clients: tuple[int, ...]) -> None:
    """In steady load, for whoever sends more and for those who send a little and come again and again."""
    world = World(patience=600.0, length=1000)
    senders = [Sender(f"t{n}") for n in range(len(clients))]
    for sender, count in zip(senders, clients, strict=True):
        world.closed_loop(sender, count)
    world.run(600.0)
    for sender in senders:
        foreseen = [(expected, true) for expected, true in world.tallies[sender.name].foreseen[20:] if true > 0.3]
        assert len(foreseen) > 50
        within = [expected for expected, true in foreseen if true / 2 <= expected <= 2 * true]
        assert len(within) >= 0.8 * len(foreseen), sender.name
        assert median(expected / true for expected, true in foreseen) == pytest.approx(1.0, abs=0.5)


def test_who_is_refused_would_indeed_have_waited_too_long() -> None:
    """At three times the capacity: those who are let wait nearly all get their place, and the seats stay taken."""
    world = World(patience=5.0, length=1000)
    world.open_loop(Sender("hot"), 3 * CAPACITY)
    world.open_loop(Sender("quiet"), CAPACITY / 5)
    world.run(SPAN)
    refused = world.room.refused
    assert refused["expired", 1] < 0.15 * refused["too_long", 1]
    assert world.tallies["quiet"].refused == 0
    assert world.busy > 0.98 * 8 * SPAN
