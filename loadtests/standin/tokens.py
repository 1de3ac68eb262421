"""The stand-in's tokenizer and its one text. A prompt token is a UTF-8 byte, so counts can be checked by eye."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import cast

WORDS = ("The", " worker", " says", " the", " same", " words", " over", " and", " over", " again", ".")


def encode(text: str) -> list[int]:
    return list(text.encode("utf-8", "surrogatepass"))


def decode(tokens: list[int]) -> str:
    """The exact inverse of encode; ids that are no byte become U+FFFD, as unknown ids do in an engine."""
    return b"".join(bytes((token,)) if token < 256 else b"\xef\xbf\xbd" for token in tokens).decode("utf-8", "replace")


@lru_cache(maxsize=256)
def generated(count: int, ended: bool) -> tuple[str, ...]:
    """The text of each of `count` tokens; one that `ended` by itself closes with the empty end-of-sequence token."""
    words = tuple(WORDS[i % len(WORDS)] for i in range(count - ended))
    return (*words, "") if ended else words


def chat_text(messages: object) -> str:
    """The prompt a chat template would make of `messages`; text parts only."""
    if not isinstance(messages, list):
        return ""
    lines: list[str] = []
    for message in cast("list[object]", messages):
        if isinstance(message, Mapping):
            said = cast("Mapping[str, object]", message)
            lines.append(f"<|{said.get('role', '')}|>{flat_text(said.get('content'))}\n")
    return "".join(lines) + "<|assistant|>"


def flat_text(content: object) -> str:
    """The text of a message's content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = cast("list[object]", content)
    return "".join(
        str(cast("Mapping[str, object]", part).get("text", "")) for part in parts if isinstance(part, Mapping)
    )


def count_prompt(prompt: object) -> int:
    """Tokens of a completion prompt or an embedding input: text, token ids, or a list of either."""
    if isinstance(prompt, str):
        return max(1, len(prompt) if prompt.isascii() else len(encode(prompt)))
    if isinstance(prompt, list):
        items = cast("list[object]", prompt)
        if items and all(isinstance(item, int) for item in items):
            return len(items)
        return sum(count_prompt(item) for item in items)
    return 0


def prompts_in(prompt: object) -> int:
    """How many separate prompts a request carries."""
    if isinstance(prompt, list):
        items = cast("list[object]", prompt)
        return 1 if items and all(isinstance(item, int) for item in items) else len(items)
    return 1
