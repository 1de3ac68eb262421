"""The text a quantized model is tuned on: windows of the standard library's source and questions about it, by seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from random import Random

from workers.demo.conversations import Conversation, conversations
from workers.demo.corpus import documented_names, standard_library_sources

WINDOW = 512

Tokenize = Callable[[str], list[int]]
RenderChat = Callable[[list[dict[str, str]]], list[int]]


def calibration_samples(samples: int, seed: int, tokenize: Tokenize, render_chat: RenderChat) -> list[list[int]]:
    """Half source code, half conversations packed to the same length; held-out modules are never used."""
    random = Random(seed)
    training = [source for source in standard_library_sources() if not source.is_held_out]
    talk = conversations([name for source in training for name in documented_names(source)], random)
    found: list[list[int]] = []
    while len(found) < samples:
        if len(found) % 2:
            found.append(_packed(talk, render_chat))
            continue
        tokens = tokenize(random.choice(training).text)
        if len(tokens) >= WINDOW:
            start = random.randrange(len(tokens) - WINDOW + 1)
            found.append(tokens[start : start + WINDOW])
    return found


def digest_of_samples(samples: Sequence[Sequence[int]]) -> str:
    text = "\n".join(" ".join(map(str, sample)) for sample in samples)
    return hashlib.sha256(text.encode()).hexdigest()


def _packed(talk: Iterator[Conversation], render_chat: RenderChat) -> list[int]:
    tokens: list[int] = []
    while len(tokens) < WINDOW:
        tokens += render_chat(_messages(next(talk)))
    return tokens[:WINDOW]


def _messages(conversation: Conversation) -> list[dict[str, str]]:
    messages = [{"role": "system", "content": conversation.system}] if conversation.system else []
    for turn in conversation.turns:
        messages += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer}]
    return messages
