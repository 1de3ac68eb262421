"""Hard inputs: whether a model and its engine cope, and whether a quantized version copes as well as its reference.

To cope is to answer with numbers that are numbers, or to refuse with the status of a bad request, and to be alive
afterwards. Asked last of all measures: what an input kills, later ones cannot ask.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from pydantic import BaseModel, ConfigDict

from workers.errors import WorkerToolError
from workers.evaluation import answers, result
from workers.evaluation.client import Client, Endpoint, NoAnswer, Reply

REFUSALS = frozenset({400, 413, 422})  # that say the request is at fault, not the key, the model or the load
ANSWER_TOKENS = 24
LEAST_STUCK = 8  # tokens, all the same, before an answer counts as stuck
MANY_STUCK = 3  # inputs: a small model's most probable words run into a loop now and then, a broken one's everywhere
TOKEN_IDS = range(256, 1000)  # every vocabulary has them
LOWEST_LOGPROB = -20.0  # a most probable token has at least one in the size of the vocabulary: e^-13 of 400,000
HIGHEST_LOGPROB = 1e-3
HUGE_MAX_TOKENS = 10**9
CHARACTERS_PER_TOKEN = 100  # of a text that is far over the context
LONGEST_TEXT = 8 << 20  # of it

COMPLETION, CHAT = "/v1/completions", "/v1/chat/completions"
SPECIAL_TOKENS = (
    *("<s>", "</s>", "<unk>", "<pad>", "<mask>", "[INST]", "[/INST]", "<<SYS>>", "<|endoftext|>", "<|end|>"),
    *("<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>"),
)

Kind = Literal["answered", "refused", "failed"]
Expected = Literal["answered", "refused", "either"]


class ContextUnknown(WorkerToolError):
    """How long the longest input may be is not known."""


@dataclass(frozen=True, slots=True)
class Input:
    """One request, and what an engine should do with it."""

    name: str
    path: str
    fields: Mapping[str, object]
    expected: Expected


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Seen(_Part):
    """What one input brought: `stuck` where an answer is one token again and again; `sane` where all its
    log-probabilities can be; `alive` where the endpoint still answers afterwards."""

    name: str
    expected: Expected
    kind: Kind
    status: int | None
    tokens: int
    stuck: bool
    sane: bool
    alive: bool
    said: str


class RobustnessAnswers(_Part):
    """What one model did with each input; JSON, so that a reference has to be asked only once."""

    seed: int
    context: int
    seen: tuple[Seen, ...]


def inputs(seed: int, context: int) -> list[Input]:
    """The hard inputs for a model with a context of so many tokens; the same for the same seed. Pure."""
    random = Random(f"robustness {seed}")
    fits = context - ANSWER_TOKENS
    noise = [random.choice(TOKEN_IDS) for _ in range(min(400, fits))]
    plain = random.choice(TOKEN_IDS)
    return [
        _completion("empty prompt", "", "either"),
        _chat("empty message", "", "either"),
        _completion("one token", [plain], "answered"),
        _completion("at the context", [random.choice(TOKEN_IDS) for _ in range(fits)], "answered"),
        _completion("one token over the context", [plain] * (context + 1), "refused"),
        _chat("far over the context", "word " * (min(context * CHARACTERS_PER_TOKEN, LONGEST_TEXT) // 5), "refused"),
        _chat("emoji", "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇳🇴 e\u0301 \U0001f600\ufe0f\u200d\u200d ?", "answered"),
        _chat("right to left", "\u202eمرحبا بالعالم\u202c שלום עולם \u2066abc\u2069 ?", "answered"),
        _chat("control characters", "".join(map(chr, range(32))) + "\x7f\x80\x9f\u2028\ufeff\uffff ?", "answered"),
        _chat("lone surrogates", "a\ud800b\udfffc", "either"),
        _chat(
            "noise as text", "".join(chr(random.randrange(0x21, 0xD7FF)) for _ in range(min(64, fits // 8))), "answered"
        ),
        _completion("noise as tokens", noise, "answered"),
        _completion("one token repeated", [plain] * min(512, fits), "answered"),
        _chat("special tokens in the text", "".join(SPECIAL_TOKENS), "either"),
        Input("huge max_tokens", CHAT, _messages("Hello") | {"max_tokens": HUGE_MAX_TOKENS}, "either"),
    ]


async def ask_robustness(
    client: Client, seed: int, context: int | None = None, answered: Callable[[], object] = lambda: None
) -> RobustnessAnswers:
    """Every input in turn, each followed by a plain one. `context` is what the endpoint says where it is None; raises
    ContextUnknown where it does not. `answered` is called after each. A lost endpoint is a finding, not an error."""
    context = context or await client.context()
    if context is None:
        raise ContextUnknown(f"{client.endpoint} does not say how long its context is; say it yourself")
    seen: list[Seen] = []
    for one in inputs(seed, context):
        if seen and not seen[-1].alive:
            seen.append(_failed(one, None, "not asked, because the endpoint is gone", alive=False))
        else:
            seen.append(await _see(client, one, seed))
        answered()
    return RobustnessAnswers(seed=seed, context=context, seen=tuple(seen))


def compare_robustness(reference: RobustnessAnswers, candidate: RobustnessAnswers) -> tuple[result.Robustness, ...]:
    """What the candidate did with each input. It is right where it coped and did as the reference did, or where the
    reference did not cope either."""
    others = {seen.name: seen for seen in reference.seen}
    newly_stuck = sum(seen.stuck and seen.name in others and not others[seen.name].stuck for seen in candidate.seen)
    return tuple(_compared(others.get(seen.name), seen, newly_stuck) for seen in candidate.seen)


async def measure_robustness(
    reference: Endpoint, candidate: Endpoint, seed: int, context: int | None = None
) -> tuple[result.Robustness, ...]:
    """Both asked, one after the other, where both endpoints are up at the same time."""
    async with Client(reference) as client:
        expected = await ask_robustness(client, seed, context)
    async with Client(candidate) as client:
        return compare_robustness(expected, await ask_robustness(client, seed, expected.context))


def problem(seen: Seen) -> str | None:
    """Why this is not to cope; None where it is."""
    if not seen.alive:
        return f"the endpoint was gone afterwards: {seen.said}"
    if seen.kind == "failed":
        return seen.said
    if seen.expected not in ("either", seen.kind):
        return f"{seen.said}; it should have been {seen.expected}"
    if not seen.sane:
        return f"{seen.said}, with log-probabilities that cannot be"
    return None


def _compared(reference: Seen | None, candidate: Seen, newly_stuck: int) -> result.Robustness:
    found = problem(candidate)
    if reference is None:
        return result.Robustness(name=candidate.name, ok=False, detail="the reference was not asked")
    theirs = problem(reference)
    if found is None and theirs is None:
        if candidate.kind != reference.kind:
            found = f"{candidate.said}; the reference {reference.said}"
        elif candidate.stuck and not reference.stuck and newly_stuck >= MANY_STUCK:
            found = f"{candidate.said}, all of them the same, unlike the reference's"
    if found and theirs and candidate.alive:
        return result.Robustness(name=candidate.name, ok=True, detail=f"{found} (nor does the reference cope)")
    return result.Robustness(name=candidate.name, ok=found is None, detail=found or candidate.said)


async def _see(client: Client, one: Input, seed: int) -> Seen:
    fields = {"model": client.endpoint.model, "temperature": 0, "seed": seed} | dict(one.fields)
    try:
        reply = await client.post(one.path, fields)
    except NoAnswer as error:
        return _failed(one, None, str(error), await _is_alive(client))
    alive = await _is_alive(client)
    if reply.status in REFUSALS:
        said = f"refused with {reply.status}: {reply.message}"
        return Seen(
            name=one.name, expected=one.expected, kind="refused", status=reply.status,
            tokens=0, stuck=False, sane=True, alive=alive, said=said,
        )  # fmt: skip
    if reply.status != 200:
        return _failed(one, reply.status, f"failed with {reply.status}: {reply.message}", alive)
    try:
        written = _written(one.path, reply)
    except answers.NotAnAnswer as error:
        return _failed(one, reply.status, str(error), alive)
    tokens = len(written.tokens)
    return Seen(
        name=one.name, expected=one.expected, kind="answered", status=reply.status,
        tokens=tokens, stuck=is_stuck(written.tokens), sane=is_sane(written.logprobs), alive=alive,
        said=f"answered with {tokens} tokens",
    )  # fmt: skip


def is_stuck(tokens: Sequence[str]) -> bool:
    return len(tokens) >= LEAST_STUCK and len(set(tokens)) == 1


def is_sane(logprobs: Sequence[float | None]) -> bool:
    """Whether these can be log-probabilities, in nats, of the most probable tokens."""
    return all(
        value is not None and math.isfinite(value) and LOWEST_LOGPROB <= value <= HIGHEST_LOGPROB for value in logprobs
    )


async def _is_alive(client: Client) -> bool:
    try:
        reply = await client.post(
            COMPLETION, {"model": client.endpoint.model, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
        )
    except NoAnswer:
        return False
    return reply.status == 200


def _written(path: str, reply: Reply) -> answers.Written:
    return answers.completions(reply.fields)[0] if path == COMPLETION else answers.chat(reply.fields)


def _failed(one: Input, status: int | None, said: str, alive: bool) -> Seen:
    return Seen(
        name=one.name, expected=one.expected, kind="failed", status=status,
        tokens=0, stuck=False, sane=True, alive=alive, said=said,
    )  # fmt: skip


def _completion(name: str, prompt: object, expected: Expected) -> Input:
    return Input(name, COMPLETION, {"prompt": prompt, "max_tokens": ANSWER_TOKENS, "logprobs": 1}, expected)


def _chat(name: str, text: str, expected: Expected) -> Input:
    return Input(name, CHAT, _messages(text) | {"max_tokens": ANSWER_TOKENS}, expected)


def _messages(text: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}], "logprobs": True}
