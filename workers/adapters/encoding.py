"""Examples as tokens and labels: what is read, and what of it is learnt.

The pieces before and after each answer's beginning are tokenized on their own, as an engine sees them: it tokenizes the
prompt, and what it samples begins with a new token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from workers.adapters.dataset import Chat, Completion, Example, Message, Text
from workers.errors import WrongUsage

IGNORED = -100  # the label of a token that is read but not learnt (torch's cross entropy leaves it out)


@dataclass(frozen=True, slots=True)
class Document:
    """Tokens and, for each, the label to learn: itself or IGNORED."""

    tokens: list[int]
    labels: list[int]

    @property
    def learnt(self) -> int:
        """How many tokens the loss counts; the first has nothing that it could be told from."""
        return sum(label != IGNORED for label in self.labels[1:])


class Tokenizer(Protocol):
    """What is used of a tokenizer, whichever library it is of."""

    has_chat_template: bool
    end: int  # what ends a text

    def encode(self, text: str, *, begins: bool) -> list[int]:
        """`begins` adds what the tokenizer puts before every text, if anything."""
        ...

    def render(self, messages: Sequence[Mapping[str, str]], *, answer_follows: bool) -> str:
        """By the chat template; with the beginning of an answer at its end where one is to follow."""
        ...


class CannotRender(Exception):
    """The chat template refuses a conversation; the message is the template's."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """`cut` were longer than the window and end where it does; `skipped` have nothing to learn within it."""

    documents: tuple[Document, ...]
    cut: int
    skipped: int

    @property
    def learnt(self) -> int:
        return sum(document.learnt for document in self.documents)


def encode(examples: Sequence[Example], tokenizer: Tokenizer, window: int, name: str) -> Encoded:
    """All examples, none longer than `window` tokens. Raises WrongUsage where none is left, or one cannot be written
    down for this model."""
    documents: list[Document] = []
    cut = skipped = 0
    for number, example in enumerate(examples, 1):
        for document in _documents(example, tokenizer, f"{name}, example {number}"):
            cut += len(document.tokens) > window
            within = Document(document.tokens[:window], document.labels[:window])
            if within.learnt:
                documents.append(within)
            else:
                skipped += 1
    if not documents:
        raise WrongUsage(
            f"{name}: no example has an answer within {window} tokens; raise --window as far as the model's context"
        )
    return Encoded(tuple(documents), cut, skipped)


def _documents(example: Example, tokenizer: Tokenizer, where: str) -> list[Document]:
    match example:
        case Text(text):
            tokens = [*tokenizer.encode(text, begins=True), tokenizer.end]
            return [Document(tokens, list(tokens))]
        case Completion(prompt, completion):
            return [_joined(((prompt, False), (completion, True)), tokenizer, [tokenizer.end])]
        case Chat(messages):
            if not tokenizer.has_chat_template:
                raise WrongUsage(
                    f"{where}: the base has no chat template, so nobody can ask it `messages`; give `prompt` and "
                    "`completion`, or add a chat template to the base"
                )
            try:
                return _conversation(messages, tokenizer)
            except CannotRender as error:
                raise WrongUsage(f"{where}: the base's chat template refuses it: {error}") from None


def _conversation(messages: Sequence[Message], tokenizer: Tokenizer) -> list[Document]:
    """One document; where the template rewrites what was said before (some drop earlier reasoning), one per answer."""
    pieces: list[tuple[str, bool]] = []
    written = ""
    for asked, answered, learnt in _exchanges(messages, tokenizer):
        if not asked.startswith(written) or not answered.startswith(asked):
            return _one_by_one(messages, tokenizer)
        pieces += [(asked[len(written) :], False), (answered[len(asked) :], learnt)]
        written = answered
    return [_joined(pieces, tokenizer)]


def _one_by_one(messages: Sequence[Message], tokenizer: Tokenizer) -> list[Document]:
    found: list[Document] = []
    for asked, answered, learnt in _exchanges(messages, tokenizer):
        if not learnt:
            continue
        if not answered.startswith(asked):
            raise CannotRender("an answer is not written after what it answers, so what is to be learnt is not clear")
        found.append(_joined(((asked, False), (answered[len(asked) :], True)), tokenizer))
    return found


def _exchanges(messages: Sequence[Message], tokenizer: Tokenizer) -> list[tuple[str, str, bool]]:
    """For each answer: all that is said before it, the same with the answer, and whether it is learnt."""
    said = [{"role": message.role, "content": message.content} for message in messages]
    return [
        (
            tokenizer.render(said[:index], answer_follows=True),
            tokenizer.render(said[: index + 1], answer_follows=False),
            message.learnt,
        )
        for index, message in enumerate(messages)
        if message.role == "assistant"
    ]


def _joined(pieces: Sequence[tuple[str, bool]], tokenizer: Tokenizer, end: Sequence[int] = ()) -> Document:
    """Pieces of text, each learnt or only read. A conversation, which has no `end`, writes its own beginning."""
    tokens: list[int] = []
    labels: list[int] = []
    for number, (text, learnt) in enumerate(pieces):
        piece = tokenizer.encode(text, begins=number == 0 and bool(end))
        tokens += piece
        labels += piece if learnt else [IGNORED] * len(piece)
    return Document([*tokens, *end], [*labels, *end])
