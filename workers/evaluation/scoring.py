"""Asks an endpoint what it says of each next token of a text that is there already.

vLLM tells it as `prompt_logprobs`, by token id. Other servers speak the older `echo` with `logprobs`, by the token's
text; such a token gets a number made of its text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from workers.errors import WorkerToolError
from workers.evaluation.client import Client, Refused
from workers.evaluation.distributions import Position, Scored
from workers.evaluation.texts import Text

SHORTEST = 32  # tokens: with less before it, no next token is worth asking about
TOKEN_ID = "token_id:"  # how vLLM writes a token when it is told to return ids
IMPOSSIBLE = -1e4  # what stands for a probability of 0; vLLM's own is -9999

Window = Sequence[int]  # token ids
Done = Callable[[], None]


class CannotScore(WorkerToolError):
    """The endpoint does not tell log-probabilities of a prompt; the message says what it said instead."""


async def tokenize(client: Client, text: str) -> list[int]:
    """With the special tokens that the tokenizer puts in front by itself. Raises CannotScore."""
    try:
        answer = await client.ask("/tokenize", prompt=text)
    except Refused as error:
        raise CannotScore(f"{error}; an evaluation needs an endpoint with /tokenize, as vLLM and SGLang have") from None
    tokens: Any = answer.get("tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, int) for token in cast("list[Any]", tokens)):
        raise CannotScore(f"{client.endpoint} answered /tokenize without a list of token ids")
    return cast("list[int]", tokens)


async def windows_of(client: Client, text: Text, count: int, tokens: int, seed: int) -> list[list[int]]:
    """At most `count` different windows of at most `tokens` token ids. Raises CannotScore where there is none."""
    return await _windows(client, text.pieces(tokens, seed), count, tokens, SHORTEST, text.name)


async def long_windows_of(client: Client, text: Text, count: int, tokens: int, seed: int) -> list[list[int]]:
    """Windows of exactly `tokens` token ids, of several documents where one is too short; fewer where the text is."""
    try:
        return await _windows(client, text.long_pieces(tokens, seed), count, tokens, tokens, text.name)
    except CannotScore:
        return []


async def _windows(
    client: Client, pieces: Iterator[str], count: int, tokens: int, shortest: int, name: str
) -> list[list[int]]:
    found: list[list[int]] = []
    for piece in pieces:
        window = (await tokenize(client, piece))[:tokens]
        if len(window) >= shortest:
            found.append(window)
        if len(found) == count:
            return found
    if not found:
        raise CannotScore(f"{name} has no stretch of {shortest} tokens; choose a longer text with --text")
    return found


async def score(client: Client, windows: Sequence[Window], top_k: int, done: Done, last: int = 0) -> list[Scored]:
    """What the model says of every token of each window but its first; of its last `last` tokens where that is not 0.

    Raises CannotScore.
    """

    async def one(window: Window) -> Scored:
        positions = await _positions(client, window, top_k)
        done()
        return Scored.of(positions[-last:] if last else positions)

    return await client.each(windows, one, alone=client.endpoint.scores_alone)


async def _positions(client: Client, window: Window, top_k: int) -> list[Position]:
    asked = {"prompt": list(window), "temperature": 0}
    try:
        answer = await client.ask("/v1/completions", **asked, max_tokens=1, prompt_logprobs=top_k)
        told = _choice(answer).get("prompt_logprobs")
        if told is not None:
            return list(from_prompt_logprobs(window, told))
        answer = await client.ask(
            "/v1/completions", **asked, max_tokens=0, echo=True, logprobs=top_k, return_tokens_as_token_ids=True
        )
        return list(from_echo(window, _choice(answer)["logprobs"]))
    except Refused as error:
        raise CannotScore(f"{error}; it has to tell log-probabilities of a prompt") from None
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise CannotScore(
            f"{client.endpoint} tells no log-probabilities of a prompt, neither as prompt_logprobs nor with echo"
            f" ({error!r})"
        ) from error


def from_prompt_logprobs(window: Window, told: Sequence[Mapping[str, Any] | None]) -> Iterator[Position]:
    """vLLM's: for each token but the first, `{token id: {logprob, rank, …}}`. Raises LookupError, TypeError."""
    for token, row in zip(window[1:], told[1:], strict=True):
        if row is None:
            raise TypeError("a token has no log-probabilities")
        found = {int(key): _number(one["logprob"]) for key, one in row.items()}
        yield Position(found[token], found)


def from_echo(window: Window, told: Mapping[str, Any]) -> Iterator[Position]:
    """OpenAI's: `tokens`, `token_logprobs` and `top_logprobs`, which may leave out the token itself. Raises
    LookupError, TypeError, ValueError."""
    count = len(window)
    rows = (cast("Sequence[Any]", told[name]) for name in ("tokens", "token_logprobs", "top_logprobs"))
    tokens, logprobs, tops = (row[1:count] for row in rows)
    if len(tokens) != count - 1:
        raise ValueError(f"{len(tokens) + 1} tokens of {count} were told")
    for token, logprob, top in zip(tokens, logprobs, tops, strict=True):
        found = {number_of(key): _number(value) for key, value in dict(top or {}).items()}
        truth = _number(logprob)
        found[number_of(token)] = truth
        yield Position(truth, found)


def number_of(token: str) -> int:
    """The id of `token_id:7`; for any other text a number of its own, below 0."""
    if token.startswith(TOKEN_ID):
        return int(token.removeprefix(TOKEN_ID))
    digest = hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return -1 - (int.from_bytes(digest) >> 1)


def _number(logprob: Any) -> float:
    """What is not a number, as a broken model has it, is as bad as impossible."""
    value = float(logprob)
    return value if value > IMPOSSIBLE else IMPOSSIBLE


def _choice(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = cast("Sequence[Mapping[str, Any]]", answer["choices"])
    return choices[0]
