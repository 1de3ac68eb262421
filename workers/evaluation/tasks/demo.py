"""Tasks of the demo models: what their adapters have learnt, and the next word of documentation they never read."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from random import Random

from workers.demo.conversations import Turn
from workers.demo.corpus import standard_library_sources
from workers.demo.sql_task import sql_turn
from workers.demo.support_task import support_turn
from workers.evaluation.tasks.task import Example

DRAWS_PER_EXAMPLE = 20  # before it is taken for granted that there are no more that differ
LEAST_CONTEXT = 12  # words before the one to be guessed
MOST_CONTEXT = 60
CHOICES = 4
LEAST_PARAGRAPH = 80  # characters
WORD_LENGTHS = range(3, 13)  # longer ones have too few others of their length to be hidden among
WORD = re.compile(r"[A-Za-z]+")


class SqlTask:
    """A request in English becomes a query: right where it is the query, white space and the last semicolon aside."""

    name = "demo-sql"

    def examples(self, seed: int, count: int) -> Sequence[Example]:
        return [
            Example(answers=(turn.answer,), messages=_asked(turn), max_tokens=96)
            for turn in _turns(sql_turn, f"{self.name} {seed}", count)
        ]

    def grade(self, example: Example, text: str) -> bool:
        return _query(text) in {_query(answer) for answer in example.answers}


class SupportTask:
    """A ticket is sorted: right where the answer's first two lines name its category and its priority."""

    name = "demo-support"

    def examples(self, seed: int, count: int) -> Sequence[Example]:
        return [
            Example(answers=(_sorted_as(turn.answer),), messages=_asked(turn), max_tokens=32, stop=("\n\n",))
            for turn in _turns(support_turn, f"{self.name} {seed}", count)
        ]

    def grade(self, example: Example, text: str) -> bool:
        return _sorted_as(text) in example.answers


class ClozeTask:
    """The next word of the documentation of modules that were kept out of training, among four of its words."""

    name = "demo-cloze"

    def examples(self, seed: int, count: int) -> Sequence[Example]:
        random = Random(f"{self.name} {seed}")
        paragraphs = held_out_paragraphs()
        words = sorted({word for text in paragraphs for word in WORD.findall(text) if _is_plain(word)})
        by_length = {length: [word for word in words if abs(len(word) - length) <= 1] for length in WORD_LENGTHS}
        places = [(text, place) for text in paragraphs for place in _places(text)]
        return [
            _cloze(text, place, by_length, random) for text, place in random.sample(places, min(count, len(places)))
        ]

    def grade(self, example: Example, text: str) -> bool:
        return text in example.answers


def held_out_paragraphs() -> list[str]:
    """Paragraphs of prose in the docstrings of held-out modules, each once, in a fixed order."""
    found: dict[str, None] = {}
    for source in standard_library_sources():
        if source.is_held_out:
            for docstring in _docstrings(source.text):
                for paragraph in docstring.split("\n\n"):
                    text = " ".join(paragraph.split())
                    if len(text) >= LEAST_PARAGRAPH and ">>>" not in text:
                        found[text] = None
    return list(found)


def _docstrings(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def _places(text: str) -> Iterator[tuple[int, int]]:
    """Where a plain word follows a space, after enough others."""
    for number, found in enumerate(WORD.finditer(text)):
        if number >= LEAST_CONTEXT and _is_plain(found[0]) and text[found.start() - 1] == " ":
            yield found.span()


def _is_plain(word: str) -> bool:
    return word.islower() and len(word) in WORD_LENGTHS


def _cloze(text: str, place: tuple[int, int], by_length: dict[int, list[str]], random: Random) -> Example:
    begin, end = place
    word = text[begin:end]
    others = [other for other in by_length[len(word)] if other != word]
    choices = [word, *random.sample(others, CHOICES - 1)]
    random.shuffle(choices)
    before = " ".join(text[:begin].split()[-MOST_CONTEXT:])
    return Example(answers=(f" {word}",), prompt=f'"""{before}', choices=tuple(f" {choice}" for choice in choices))


def _turns(draw: Callable[[Random], Turn], seed: str, count: int) -> list[Turn]:
    """`count` turns that differ in their question, or as many as there are."""
    random = Random(seed)
    found: dict[str, Turn] = {}
    for _ in range(count * DRAWS_PER_EXAMPLE):
        if len(found) >= count:
            break
        turn = draw(random)
        found.setdefault(turn.question, turn)
    return list(found.values())


def _asked(turn: Turn) -> tuple[dict[str, str], ...]:
    return ({"role": "user", "content": turn.question},)


def _query(text: str) -> str:
    return " ".join(text.split()).removesuffix(";").rstrip()


def _sorted_as(answer: str) -> str:
    return "\n".join(line.strip() for line in answer.strip().splitlines()[:2])
