from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.adapters.batches import PADDING, batches, padded, steps_of
from workers.adapters.dataset import Chat, Completion, Example, Message, Text
from workers.adapters.encoding import IGNORED, CannotRender, Document, encode
from workers.errors import WrongUsage

END, BEGIN, OFFSET = 0, 1, 2
letters = st.text("abc", min_size=1, max_size=8)


class Characters:
    """One token per character; a conversation is `u:…;a:…;`, and its template may forget what was said before."""

    end = END

    def __init__(self, *, has_chat_template: bool = True, forgets: bool = False) -> None:
        self.has_chat_template = has_chat_template
        self._forgets = forgets

    def encode(self, text: str, *, begins: bool) -> list[int]:
        return [BEGIN] * begins + [ord(character) + OFFSET for character in text]

    def render(self, messages: Sequence[Mapping[str, str]], *, answer_follows: bool) -> str:
        if any(message["role"] == "tool" for message in messages):
            raise CannotRender("no tools")
        last = len(messages) - (not answer_follows)
        written = ""
        for number, message in enumerate(messages):
            is_forgotten = self._forgets and number < last and message["role"] == "assistant"
            written += f"{message['role'][0]}:{'' if is_forgotten else message['content']};"
        return written + "a:" * answer_follows


def text_of(tokens: Sequence[int]) -> str:
    return "".join({END: "$", BEGIN: "^"}.get(token) or chr(token - OFFSET) for token in tokens)


def learnt(document: Document) -> str:
    return text_of([label for label in document.labels if label != IGNORED])


def only(example: Example, tokenizer: Characters | None = None) -> Document:
    (document,) = encode([example], tokenizer or Characters(), 1000, "data").documents
    return document


def chat(*turns: tuple[str, str]) -> Chat:
    return Chat(tuple(m for ask, say in turns for m in (Message("user", ask), Message("assistant", say, True))))


def test_a_completion_is_learnt_with_the_end_of_the_text() -> None:
    document = only(Completion("2+2=", "4"))

    assert text_of(document.tokens) == "^2+2=4$"
    assert learnt(document) == "4$"


def test_a_text_is_learnt_whole() -> None:
    document = only(Text("ab"))

    assert text_of(document.tokens) == learnt(document) == "^ab$"
    assert document.learnt == 3  # nothing comes before the first


def test_of_a_conversation_the_answers_are_learnt_with_what_ends_them() -> None:
    document = only(chat(("hi", "ho"), ("bye", "so long")))

    assert text_of(document.tokens) == "u:hi;a:ho;u:bye;a:so long;"
    assert learnt(document) == "ho;so long;"


def test_an_answer_that_is_not_to_be_learnt_is_read() -> None:
    document = only(Chat((Message("assistant", "no"), Message("user", "hi"), Message("assistant", "ho", True))))

    assert text_of(document.tokens) == "a:no;u:hi;a:ho;"
    assert learnt(document) == "ho;"


def test_where_the_template_rewrites_what_was_said_each_answer_is_a_document() -> None:
    found = encode([chat(("hi", "ho"), ("bye", "so long"))], Characters(forgets=True), 1000, "data").documents

    assert [(text_of(one.tokens), learnt(one)) for one in found] == [
        ("u:hi;a:ho;", "ho;"),
        ("u:hi;a:;u:bye;a:so long;", "so long;"),
    ]


@given(st.lists(st.tuples(letters, letters), min_size=1, max_size=4), st.booleans())
def test_what_is_learnt_is_every_answer_and_nothing_else(turns: list[tuple[str, str]], forgets: bool) -> None:
    found = encode([chat(*turns)], Characters(forgets=forgets), 1000, "data").documents

    assert "".join(map(learnt, found)) == "".join(f"{answer};" for _, answer in turns)
    for document in found:
        assert all(label in (IGNORED, token) for token, label in zip(document.tokens, document.labels, strict=True))


def test_what_is_longer_than_the_window_is_cut_and_counted() -> None:
    found = encode([Text("abcdef"), Completion("a" * 20, "b"), Text("ab")], Characters(), 5, "data")

    assert [text_of(document.tokens) for document in found.documents] == ["^abcd", "^ab$"]
    assert (found.cut, found.skipped, found.learnt) == (2, 1, 7)


def test_where_no_answer_is_within_the_window_nothing_is_trained() -> None:
    with pytest.raises(WrongUsage, match=r"no example has an answer within 5 tokens; raise --window"):
        encode([Completion("a" * 20, "b")], Characters(), 5, "data")


def test_messages_need_a_chat_template() -> None:
    with pytest.raises(WrongUsage, match="data, example 2: the base has no chat template"):
        encode([Text("a"), chat(("hi", "ho"))], Characters(has_chat_template=False), 100, "data")


def test_what_the_template_refuses_is_refused_with_its_words() -> None:
    with pytest.raises(WrongUsage, match="example 1: the base's chat template refuses it: no tools"):
        only(Chat((Message("tool", "1"), Message("assistant", "a", True))))


def documents(count: int) -> list[Document]:
    return [Document([number] * (1 + number % 7), [number] * (1 + number % 7)) for number in range(count)]


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 3))
def test_each_pass_has_every_document_once(count: int, size: int, seed: int) -> None:
    found, stream = documents(count), batches(documents(count), size, Random(seed))

    for _ in range(2):
        passed = [document for _ in range(-(-count // size)) for document in next(stream)]
        assert sorted(one.tokens for one in passed) == sorted(one.tokens for one in found)


def test_the_order_comes_from_the_seed() -> None:
    def first(seed: int) -> list[list[Document]]:
        stream = batches(documents(20), 4, Random(seed))
        return [next(stream) for _ in range(5)]

    assert first(1) == first(1) != first(2)


def test_padding_is_read_by_nothing_and_never_learnt() -> None:
    tokens, labels = padded([Document([5], [5]), Document([6, 7, 8], [IGNORED, 7, 8])])

    assert tokens == [[5, PADDING, PADDING], [6, 7, 8]]
    assert labels == [[5, IGNORED, IGNORED], [IGNORED, 7, 8]]


@pytest.mark.parametrize(("epochs", "count", "size", "steps"), [(3, 10, 4, 9), (0.5, 10, 4, 2), (0.01, 3, 4, 1)])
def test_epochs_are_so_many_batches(epochs: float, count: int, size: int, steps: int) -> None:
    assert steps_of(epochs, count, size) == steps
