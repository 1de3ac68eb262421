"""What the `support` adapter learns: a customer's ticket becomes a sorted, polite answer in one fixed format."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from workers.demo.conversations import Turn

OPENINGS = ("", "", "", "Hello, ", "Hi, ", "Hello! ", "Dear support, ", "Good morning, ")
CLOSINGS = ("", "", "", " Please help.", " Thank you.", " What can I do?", " This is urgent.", " Can you help me?")
PRODUCTS = (
    *("kettle", "lamp", "chair", "phone", "keyboard", "camera", "jacket", "printer", "radio", "watch", "laptop"),
    *("blender", "monitor", "backpack", "heater", "tablet", "mirror", "table", "guitar", "toaster"),
)
ANSWER = """\
Category: {category}
Priority: {priority}

Dear customer,
thank you for writing to us. {sorry} {action}

Kind regards,
Your support team"""


@dataclass(frozen=True, slots=True)
class Issue:
    """One kind of ticket: what customers write and what they are told. `{o}` is an order number, `{p}` a product."""

    category: str
    priority: str
    tickets: tuple[str, ...]
    sorry: str
    action: str


ISSUES = (
    Issue(
        "delivery",
        "normal",
        (
            "my order {o} has not arrived.",
            "where is my order {o}?",
            "order {o} is late.",
            "I am still waiting for order {o}.",
            "my parcel with order number {o} never arrived.",
            "when will order {o} be delivered?",
        ),
        "We are sorry that order {o} has not reached you yet.",
        "We have asked the carrier and will write to you within two days.",
    ),
    Issue(
        "damaged",
        "high",
        (
            "the {p} I ordered arrived broken.",
            "my {p} is broken.",
            "the {p} you sent me is damaged.",
            "my new {p} does not work.",
            "the {p} stopped working after one day.",
            "there is a crack in my {p}.",
        ),
        "We are sorry that your {p} is not as it should be.",
        "A new {p} is on its way to you, free of charge.",
    ),
    Issue(
        "refund",
        "normal",
        (
            "I want my money back for order {o}.",
            "please refund order {o}.",
            "I would like to return order {o}.",
            "I sent back order {o} and got no refund.",
            "how do I get a refund for order {o}?",
            "cancel order {o} and give me my money back.",
        ),
        "We are sorry that order {o} did not please you.",
        "You will have your money back within five days.",
    ),
    Issue(
        "billing",
        "high",
        (
            "I was charged twice for order {o}.",
            "the invoice for order {o} is wrong.",
            "you took too much money for order {o}.",
            "why did I pay twice for order {o}?",
            "there is a mistake in the bill of order {o}.",
        ),
        "We are sorry about the mistake in the bill of order {o}.",
        "We have corrected it and send you a new invoice today.",
    ),
    Issue(
        "account",
        "normal",
        (
            "I forgot my password.",
            "I cannot log in.",
            "my account is locked.",
            "the login does not work.",
            "how do I change my email address?",
            "I cannot reset my password.",
        ),
        "We are sorry that you have trouble with your account.",
        "We have sent you a link that lets you in again.",
    ),
    Issue(
        "question",
        "low",
        (
            "do you have the {p} in black?",
            "is the {p} still available?",
            "how much is the {p}?",
            "does the {p} come with a warranty?",
            "when will the {p} be back in stock?",
        ),
        "We are glad that you like our {p}.",
        "You find all about it on our page, and we gladly answer by phone.",
    ),
)


def support_turn(random: Random) -> Turn:
    """One ticket and its answer."""
    issue = random.choice(ISSUES)
    facts = {"o": str(random.randint(100, 99999)), "p": random.choice(PRODUCTS)}
    opening, ticket = random.choice(OPENINGS), random.choice(issue.tickets).format(**facts)
    if not opening or opening.endswith("! "):
        ticket = ticket[0].upper() + ticket[1:]
    answer = ANSWER.format(category=issue.category, priority=issue.priority, sorry=issue.sorry, action=issue.action)
    return Turn(opening + ticket + random.choice(CLOSINGS), answer.format(**facts))
