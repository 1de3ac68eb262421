"""Requests made from a trace: prompts of the recorded length that share what the recorded ones shared.

A prompt is its blocks one after the other, and a block is always the same words, so two prompts with the same first
blocks begin with the same text: what an engine's prefix cache, or a router that minds it, sees is what was recorded.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from loadtests.client import Target, post
from loadtests.trace import Call, pieces

Endpoint = Literal["chat", "completions"]
PATHS: dict[Endpoint, str] = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}

# Each with the blank before it is one token in the tokenizers of most models: lengths of text are close, not exact.
_WORDS = (
    "the of and to in is that for it was on are as with they be at one have this from had by some what there we can "
    "out other were all your when up use word how said an each she which do their time if will way about many then "
    "them would write like so these her long make thing see him two has look more day could go come did my sound no "
    "most number who over know water than call first people may down side been now find any new work part take get "
    "place made live where after back little only round man year came show every good me give our under name very "
    "through just form much great think say help low line before turn cause same mean differ move right boy old too "
    "does tell set three want air well also play small end put home read hand port large add even land here must big "
    "high such follow act why ask men change went light kind off need house picture try us again animal point mother "
    "world near build self earth father head stand own page should country found answer school grow study still learn"
).split()
_TOKEN_IDS = range(1000, 2000)  # ordinary tokens in every vocabulary in use
_REMEMBERED = 4096  # blocks; those of one conversation come again soon


@dataclass(frozen=True, slots=True)
class Writer:
    """Turns calls into requests.

    `chat` writes text, close to the recorded length; `completions` writes token ids, exactly as many. `exact` asks for
    answers of exactly the recorded length, in the words vLLM and SGLang understand; a server that refuses fields it
    does not know gets them as a limit only.
    """

    target: Target
    model: str
    endpoint: Endpoint = "chat"
    stream: bool = True
    exact: bool = True
    seed: int = 0  # another one makes other words: a cache that still holds the last replay will not help
    extra: tuple[tuple[str, object], ...] = ()

    def request(self, call: Call) -> bytes:
        body: dict[str, object] = {"model": self.model, "max_tokens": call.output_tokens}
        if self.endpoint == "chat":
            text = " ".join(_words(self.seed, block, tokens) for block, tokens in pieces(call))
            body["messages"] = [{"role": "user", "content": text}]
        else:
            body["prompt"] = [token for block, tokens in pieces(call) for token in _ids(self.seed, block, tokens)]
        if self.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if self.exact:
            body["ignore_eos"] = True
        return post(self.target, PATHS[self.endpoint], body | dict(self.extra))


@lru_cache(maxsize=_REMEMBERED)
def _words(seed: int, block: int, tokens: int) -> str:
    return " ".join(random.Random(f"{seed} {block}").choices(_WORDS, k=tokens))


@lru_cache(maxsize=_REMEMBERED)
def _ids(seed: int, block: int, tokens: int) -> tuple[int, ...]:
    return tuple(random.Random(f"{seed} {block}").choices(_TOKEN_IDS, k=tokens))
