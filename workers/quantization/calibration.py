"""The tokens a quantized model is tuned on, in windows of one length, by seed: from the user's texts or built-in ones.

Built in are the standard library's source and questions about it, which is what the demo's models know.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

from workers.demo.conversations import Conversation, conversations
from workers.demo.corpus import documented_names, standard_library_sources
from workers.quantization.texts import BadCalibration, chosen, read_records

WINDOW = 512
ATTEMPTS = 100  # sources in a row that are shorter than a window

Tokenize = Callable[[str], list[int]]
RenderChat = Callable[[list[dict[str, str]]], list[int]]


def calibration_samples(
    samples: int, seed: int, tokenize: Tokenize, render_chat: RenderChat, length: int = WINDOW
) -> list[list[int]]:
    """Half source code, half conversations packed to the same length; held-out modules are never used."""
    random = Random(seed)
    training = [source for source in standard_library_sources() if not source.is_held_out]
    talk = conversations([name for source in training for name in documented_names(source)], random)
    found: list[list[int]] = []
    short = 0
    while len(found) < samples:
        if len(found) % 2:
            found.append(_packed(talk, render_chat, length))
            continue
        tokens = tokenize(random.choice(training).text)
        if len(tokens) >= length:
            start = random.randrange(len(tokens) - length + 1)
            found.append(tokens[start : start + length])
            short = 0
        elif (short := short + 1) == ATTEMPTS:
            raise BadCalibration(f"the built-in text is too short for windows of {length} tokens; lower --length")
    return found


def samples_of_files(
    paths: Sequence[Path], samples: int, length: int, seed: int, tokenize: Tokenize, render_chat: RenderChat
) -> list[list[int]]:
    """Windows of exactly `length` tokens over the files' records, shuffled and put one after another.

    Raises BadCalibration where the files cannot be read or have too few tokens."""
    tokens: list[int] = []
    for record in chosen(read_records(paths), seed):
        tokens += tokenize(record) if isinstance(record, str) else render_chat(record)
        if len(tokens) >= samples * length:
            break
    if len(tokens) < samples * length:
        enough = len(tokens) // length
        remedy = f"lower --samples to {enough}" if enough else "lower --length"
        raise BadCalibration(
            f"--calibration has {len(tokens)} tokens, and {samples} windows of {length} were asked for; give more text,"
            f" or {remedy}"
        )
    return [tokens[start : start + length] for start in range(0, samples * length, length)]


def digest_of_samples(samples: Sequence[Sequence[int]]) -> str:
    text = "\n".join(" ".join(map(str, sample)) for sample in samples)
    return hashlib.sha256(text.encode()).hexdigest()


def _packed(talk: Iterator[Conversation], render_chat: RenderChat, length: int) -> list[int]:
    tokens: list[int] = []
    while len(tokens) < length:
        tokens += render_chat(_messages(next(talk)))
    return tokens[:length]


def _messages(conversation: Conversation) -> list[dict[str, str]]:
    messages = [{"role": "system", "content": conversation.system}] if conversation.system else []
    for turn in conversation.turns:
        messages += [{"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer}]
    return messages
