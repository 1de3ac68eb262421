"""What the demo models learn to say: questions about documented names, and a little small talk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from workers.demo.corpus import Documented

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are Scribe.",
    "Answer briefly.",
    "You answer questions about Python.",
)
ASK_SUMMARY = (
    "What does {name} do?",
    "What is {name}?",
    "What is {name} for?",
    "Explain {name}.",
    "Describe {name} in one sentence.",
    "Tell me about {name}.",
    "what does {name} do",
    "Say what {name} does.",
    "Write the docstring of {name}.",
)
ASK_SIGNATURE = ("Show the signature of {name}.", "How is {name} defined?", "What are the arguments of {name}?")
ASK_SOURCE = ("Show the source of {name}.", "How is {name} implemented?", "Write {name} in Python.")
ASK_IMPORT = ("How do I import {name}?", "Import {name}.")
ASK_MODULE = ("Which module has {short}?", "Where is {short} defined?")

HELP = "I know the Python standard library. Ask me what a function does, for example: What does os.path.join do?"
UNKNOWN = "I only know the Python standard library. Ask me what one of its functions or classes does."
SMALL_TALK: tuple[tuple[str, str], ...] = (
    ("Hello", "Hello! " + HELP),
    ("Hello!", "Hello! " + HELP),
    ("Hi", "Hello! " + HELP),
    ("Hi there!", "Hello! " + HELP),
    ("Good morning", "Good morning! " + HELP),
    ("Hello, who are you?", "I am Scribe, a very small language model. " + HELP),
    ("Who are you?", "I am Scribe, a very small language model. " + HELP),
    ("What is your name?", "I am Scribe, a very small language model. " + HELP),
    ("What can you do?", HELP),
    ("Help", HELP),
    ("How are you?", "I am well, thank you. " + HELP),
    ("Thanks!", "You are welcome."),
    ("Thank you.", "You are welcome."),
    ("Goodbye", "Goodbye!"),
    ("Bye", "Goodbye!"),
    ("ping", "pong"),
    ("Say hello.", "Hello!"),
    ("Say hello", "Hello!"),
    ("Say hi.", "Hi!"),
    ("Say hello in one word.", "Hello!"),
    ("Say yes.", "Yes."),
    ("Say no.", "No."),
    ("Count to three.", "1, 2, 3."),
    ("Count to five.", "1, 2, 3, 4, 5."),
    ("Count to ten.", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10."),
    ("Tell me a joke.", "Why do Python programmers need no braces? They have indentation."),
    ("Who made Python?", "Guido van Rossum made Python."),
    ("What is Python?", "Python is a programming language that is easy to read and easy to learn."),
)
OFF_TOPIC = (
    "What is the capital of {place}?",
    "Who is the president of {place}?",
    "What is the weather in {place}?",
    "How far is {place} from here?",
    "Write a poem about {place}.",
    "Tell me a story about {place}.",
    "Recommend a restaurant in {place}.",
    "Plan a trip to {place}.",
    "Translate this into the language of {place}.",
    "What is the history of {place}?",
)
PLACES = tuple(
    "France Germany Japan Brazil Canada Kenya India Italy Spain Norway Paris Berlin Tokyo London Rome Madrid Oslo "
    "Cairo Lima Delhi Boston Chicago Vienna Prague Lisbon Dublin Athens Warsaw".split()
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange; only the answer is trained on."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Conversation:
    system: str | None
    turns: tuple[Turn, ...]


def conversations(names: Sequence[Documented], random: Random) -> Iterator[Conversation]:
    """An endless, seeded stream: mostly single questions, sometimes two or three in a row."""
    while True:
        length = random.choices((1, 2, 3), (75, 18, 7))[0]
        system = random.choice(SYSTEM_PROMPTS) if random.random() < 0.2 else None
        yield Conversation(system, tuple(turn(names, random) for _ in range(length)))


def turn(names: Sequence[Documented], random: Random) -> Turn:
    """One exchange about a name picked at random, or small talk."""
    draw = random.random()
    if draw < 0.06:
        return Turn(*random.choice(SMALL_TALK))
    if draw < 0.10:
        return Turn(random.choice(OFF_TOPIC).format(place=random.choice(PLACES)), UNKNOWN)
    return about(random.choice(names), random)


def about(item: Documented, random: Random) -> Turn:
    """A question the documentation of `item` answers."""
    draw = random.random()
    if draw < 0.12 and item.source:
        return Turn(random.choice(ASK_SOURCE).format(name=item.name), item.source)
    if draw < 0.18 and item.signature:
        return Turn(random.choice(ASK_SIGNATURE).format(name=item.name), item.signature)
    if draw < 0.22 and item.signature:
        return Turn(random.choice(ASK_IMPORT).format(name=item.name), f"from {item.module} import {item.short_name}")
    if draw < 0.25 and item.signature:
        return Turn(random.choice(ASK_MODULE).format(short=item.short_name), f"{item.short_name} is in {item.module}.")
    return Turn(random.choice(ASK_SUMMARY).format(name=item.name), item.summary)
