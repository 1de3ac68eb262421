from __future__ import annotations

from itertools import islice
from random import Random

from workers.demo.conversations import SMALL_TALK, about, conversations
from workers.demo.corpus import Documented

DEDENT = Documented(
    "textwrap.dedent",
    "function",
    "Remove any common leading whitespace.",
    signature="def dedent(text):",
    source="def dedent(text):\n    return text",
)
LEN = Documented("len", "function", "Return the number of items in a container.")


def test_the_seed_decides_every_word() -> None:
    once, again, other = (list(islice(conversations([DEDENT, LEN], Random(seed)), 50)) for seed in (1, 1, 2))

    assert once == again != other


def test_conversations_vary_in_length_and_system_prompt() -> None:
    found = list(islice(conversations([DEDENT], Random(3)), 300))

    assert {len(conversation.turns) for conversation in found} == {1, 2, 3}
    assert any(conversation.system for conversation in found)
    assert not all(conversation.system for conversation in found)


def test_every_kind_of_question_is_asked_and_answered_from_the_documentation() -> None:
    random = Random(4)

    answers = {about(DEDENT, random).answer for _ in range(500)}

    assert answers == {
        DEDENT.summary,
        DEDENT.signature,
        DEDENT.source,
        "from textwrap import dedent",
        "dedent is in textwrap.",
    }


def test_a_builtin_is_only_asked_for_its_summary() -> None:
    random = Random(5)

    assert {about(LEN, random).answer for _ in range(200)} == {LEN.summary}


def test_small_talk_is_unambiguous() -> None:
    assert len({question for question, _ in SMALL_TALK}) == len(SMALL_TALK)
