"""What an engine has counted beyond the ledger, or the ledger beyond it, as correction rows of those attempts whose
tokens are estimates. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from gateway.audit.share import Room, share
from gateway.ledger.pricing import token_cost
from gateway.ledger.record import Attempt
from gateway.table import Price, configured

# What no attempt can have come to, whatever an estimate says: beyond it is somebody else's. For each of its choices.
OUTPUT_PER_SECOND = 1_000  # tokens of one answer
PROMPT_PER_SECOND = 50_000
TIMES_PROMPT = 4  # an estimate takes four bytes for a token, and no tokenizer makes more tokens than there are bytes
BESIDES = 256  # tokens of a chat's template


class Stand(NamedTuple):
    """An attempt with the corrections there are of it."""

    base: Attempt
    corrections: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    counted_prompt: int  # as an engine counts it: for each choice


def corrections(
    left_prompt: int, left_output: int, rows: Sequence[Attempt], prices: Mapping[str, Price]
) -> list[Attempt]:
    """`rows` are estimated attempts and their corrections, by request and number; what is left over is as the engine
    counts it. None where the engine did more than they can have come to."""
    groups = (list(group) for _, group in groupby(rows, key=lambda row: row[:2]))
    stands = [_stand(group) for group in groups if not group[0].correction]
    prompt_rooms = [_prompt_room(stand) for stand in stands]
    output_rooms = [_output_room(stand) for stand in stands]
    if left_prompt > sum(room.most for room in prompt_rooms) or left_output > sum(room.most for room in output_rooms):
        return []  # somebody else was at the engine: how much of it is theirs nobody can tell
    prompts, outputs = share(left_prompt, prompt_rooms), share(left_output, output_rooms)
    return [
        row
        for stand, prompt, output in zip(stands, prompts, outputs, strict=True)
        for row in _corrections(stand, prompt, output, prices)
    ]


def _stand(group: list[Attempt]) -> Stand:
    base = group[0]
    return Stand(
        base,
        group[-1].correction,
        sum(row.prompt_tokens for row in group),
        sum(row.cached_tokens for row in group),
        sum(row.output_tokens for row in group),
        sum(row.prompt_tokens * row.choices for row in group),
    )


def _prompt_room(stand: Stand) -> Room:
    """A prompt whose first token came was counted, but by another tokenizer than bytes; any other may not have been."""
    base, tokens = stand.base, stand.prompt_tokens
    seconds = max(0.0, base.duration_seconds)
    deviation = 1 + tokens // 8 if base.ttft_seconds is not None else 8 + tokens + int(256 * seconds)
    guess = base.prompt_tokens
    most = (TIMES_PROMPT * guess if guess else int(PROMPT_PER_SECOND * seconds)) + BESIDES
    counted = stand.counted_prompt
    return Room((deviation * base.choices) ** 2, -counted, max(0, most * base.choices - counted))


def _output_room(stand: Stand) -> Room:
    """A stream showed its tokens, but for the last that were on their way; what comes whole showed nothing."""
    base, tokens = stand.base, stand.output_tokens
    seconds = max(0.0, base.duration_seconds)
    deviation = 2 + tokens // 16 if base.ttft_seconds is not None else 2 + tokens + int(16 * seconds)
    most = BESIDES + int(OUTPUT_PER_SECOND * seconds) * base.choices
    return Room(deviation**2, -tokens, max(0, most - tokens))


def _corrections(stand: Stand, counted: int, output: int, prices: Mapping[str, Price]) -> list[Attempt]:
    """One row mostly. What the engine counted may be no multiple of the choices: of one more token as many of them are
    then made out to have counted it as are wanted."""
    choices = stand.base.choices
    prompt, rest = divmod(counted, choices)
    rows: list[Attempt] = []
    if prompt or output:
        rows.append(_correction(stand, prompt, output, choices, prices))
    if rest:
        if rows:
            stand = _stand_with(stand, rows[0])
        rows.append(_correction(stand, 1, 0, rest, prices))
    return rows


def _stand_with(stand: Stand, row: Attempt) -> Stand:
    return Stand(
        stand.base,
        row.correction,
        stand.prompt_tokens + row.prompt_tokens,
        stand.cached_tokens + row.cached_tokens,
        stand.output_tokens + row.output_tokens,
        stand.counted_prompt + row.prompt_tokens * row.choices,
    )


def _correction(stand: Stand, prompt: int, output: int, choices: int, prices: Mapping[str, Price]) -> Attempt:
    """Of the attempt's period and hour, with nothing but differences in it. Time was measured and costs what it did."""
    base = stand.base
    before = stand.prompt_tokens, stand.cached_tokens, stand.output_tokens
    after_prompt = stand.prompt_tokens + prompt
    after = after_prompt, min(stand.cached_tokens, after_prompt), stand.output_tokens + output
    price = prices.get(configured(base.line.worker, prices)) if base.line.cost_basis == "token_price" else None
    worked = base.outcome not in ("failed", "rejected")  # for those nobody is charged
    return base._replace(
        correction=stand.corrections + 1,
        choices=choices,
        ttft_seconds=None,
        duration_seconds=0.0,
        estimated=True,
        prompt_tokens=prompt,
        cached_tokens=after[1] - before[1],
        output_tokens=output,
        gpu_ns=0,
        cost_nanousd=token_cost(price, *after) - token_cost(price, *before) if price is not None and worked else 0,
    )
