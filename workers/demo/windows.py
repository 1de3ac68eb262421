"""Training windows: documents as tokens, packed to a fixed length, with the labels that are to be learnt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Protocol

from workers.adapters.encoding import IGNORED, Document
from workers.demo.chat_format import ASSISTANT, DOCUMENT, END, SYSTEM, USER
from workers.demo.conversations import Conversation, Turn, conversations
from workers.demo.corpus import Documented, Source

LONGEST_PIECE = 1024


class Encoding(Protocol):
    """What is used of `tokenizers.Encoding`."""

    @property
    def ids(self) -> list[int]: ...


class Tokenizer(Protocol):
    """What is used of `tokenizers.Tokenizer`, which this environment may not have."""

    def token_to_id(self, token: str, /) -> int: ...
    def encode(self, sequence: str, /, *, add_special_tokens: bool) -> Encoding: ...
    def encode_batch(self, input: list[str], /, *, add_special_tokens: bool) -> list[Encoding]: ...


class Encoder:
    """Text to documents; the special tokens are looked up once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._document, self._end, self._system, self._user, self._assistant = (
            tokenizer.token_to_id(token) for token in (DOCUMENT, END, SYSTEM, USER, ASSISTANT)
        )

    def pieces(self, sources: Sequence[Source]) -> list[Document]:
        """Every source file, cut where a model with a short window has to cut."""
        found: list[Document] = []
        for encoding in self._tokenizer.encode_batch([source.text for source in sources], add_special_tokens=False):
            for start in range(0, len(encoding.ids), LONGEST_PIECE):
                tokens = [self._document, *encoding.ids[start : start + LONGEST_PIECE]]
                found.append(Document(tokens, [IGNORED, *tokens[1:]]))
        return found

    def conversation(self, conversation: Conversation) -> Document:
        tokens = [self._document]
        if conversation.system:
            tokens += [self._system, *self._encode(conversation.system), self._end]
        labels = [IGNORED] * len(tokens)
        for turn in conversation.turns:
            asked, answered = self._turn(turn)
            tokens += asked + answered
            labels += [IGNORED] * len(asked) + answered
        return Document(tokens, labels)

    def _turn(self, turn: Turn) -> tuple[list[int], list[int]]:
        asked = [self._user, *self._encode(turn.question), self._end, self._assistant]
        return asked, [*self._encode(turn.answer), self._end]

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids


def documents(
    pieces: Sequence[Document], names: Sequence[Documented], encoder: Encoder, code_share: float, random: Random
) -> Iterator[Document]:
    """An endless, seeded mixture of source code and conversations; `code_share` counts tokens, not documents."""
    talk = conversations(names, random)
    shuffled: list[Document] = []
    code_tokens, talk_tokens = 0, 0
    while True:
        if code_tokens * (1 - code_share) <= talk_tokens * code_share and code_share > 0:
            if not shuffled:
                shuffled = random.sample(pieces, len(pieces))
            document = shuffled.pop()
            code_tokens += len(document.tokens)
        else:
            document = encoder.conversation(next(talk))
            talk_tokens += len(document.tokens)
        yield document


def windows(stream: Iterator[Document], length: int) -> Iterator[Document]:
    """Windows of exactly `length` tokens, each beginning with the beginning of a document."""
    while True:
        tokens: list[int] = []
        labels: list[int] = []
        while len(tokens) < length:
            document = next(stream)
            tokens += document.tokens
            labels += document.labels
        yield Document(tokens[:length], labels[:length])
