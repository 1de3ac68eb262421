from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from random import Random

import pytest

from workers.demo.chat_format import ASSISTANT, DOCUMENT, END, SPECIAL, SYSTEM, USER
from workers.demo.conversations import Conversation, Turn
from workers.demo.corpus import Documented, Source
from workers.demo.windows import IGNORED, LONGEST_PIECE, Document, Encoder, documents, windows

FIRST_BYTE = len(SPECIAL)


@dataclass(frozen=True)
class Encoded:
    ids: list[int]


class ByteTokenizer:
    """One token per byte, after the special ones."""

    def token_to_id(self, token: str, /) -> int:
        return SPECIAL.index(token)

    def encode(self, sequence: str, /, *, add_special_tokens: bool) -> Encoded:
        assert not add_special_tokens
        return Encoded([byte + FIRST_BYTE for byte in sequence.encode()])

    def encode_batch(self, input: list[str], /, *, add_special_tokens: bool) -> list[Encoded]:
        return [self.encode(text, add_special_tokens=add_special_tokens) for text in input]


def text_of(tokens: list[int]) -> str:
    return "".join(SPECIAL[token] if token < FIRST_BYTE else chr(token - FIRST_BYTE) for token in tokens)


@pytest.fixture
def encoder() -> Encoder:
    return Encoder(ByteTokenizer())


def test_a_conversation_is_written_like_the_chat_template_and_only_answers_are_learnt(encoder: Encoder) -> None:
    document = encoder.conversation(Conversation("Be brief.", (Turn("Hi", "Hello!"), Turn("Bye", "Goodbye!"))))

    assert text_of(document.tokens) == (
        f"{DOCUMENT}{SYSTEM}Be brief.{END}{USER}Hi{END}{ASSISTANT}Hello!{END}{USER}Bye{END}{ASSISTANT}Goodbye!{END}"
    )
    learnt = [label for label in document.labels if label != IGNORED]
    assert text_of(learnt) == f"Hello!{END}Goodbye!{END}"
    assert len(document.labels) == len(document.tokens)


def test_sources_are_cut_into_pieces_that_begin_like_documents(encoder: Encoder) -> None:
    text = "x" * (2 * LONGEST_PIECE + 5)

    pieces = encoder.pieces([Source("a", text), Source("b", "y")])

    assert [len(piece.tokens) for piece in pieces] == [LONGEST_PIECE + 1, LONGEST_PIECE + 1, 6, 2]
    assert all(text_of(piece.tokens).startswith(DOCUMENT) for piece in pieces)
    assert all(piece.labels == [IGNORED, *piece.tokens[1:]] for piece in pieces)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.6])
def test_the_mixture_counts_tokens_not_documents(encoder: Encoder, share: float) -> None:
    pieces = encoder.pieces([Source("a", "x" * 5000)])
    names = [Documented("len", "function", "Return the number of items in a container.")]

    found = list(islice(documents(pieces, names, encoder, share, Random(1)), 3000))

    code = sum(len(document.tokens) for document in found if text_of(document.tokens[1:2]) == "x")
    total = sum(len(document.tokens) for document in found)
    assert code / total == pytest.approx(share, abs=0.02)


def test_every_window_has_the_length_and_begins_with_a_document() -> None:
    stream = iter([Document([1, 2, 3], [1, 2, 3]), Document([4, 5], [4, 5]), Document([6] * 9, [7] * 9)])

    first, second = islice(windows(stream, 4), 2)

    assert first == Document([1, 2, 3, 4], [1, 2, 3, 4])
    assert second == Document([6] * 4, [7] * 4)
