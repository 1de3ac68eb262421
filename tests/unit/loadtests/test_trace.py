"""Recorded traffic: what is read, what is refused and where, how it is scaled, what its prompts share."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.trace import BLOCK, Call, Scale, TraceError, parse, pieces, read, shared_tokens, speed_for

ROOT = Path(__file__).parents[3]
TRACES = Path(os.environ.get("TOLLGATE_TRACES", ROOT.parent / "shared" / "traces"))

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"


def mooncake(*rows: tuple[float, int, int, list[int]]) -> list[str]:
    names = ("timestamp", "input_length", "output_length", "hash_ids")
    return [json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows]


def shared(name: str) -> Path:
    path = TRACES / name
    if not path.exists():
        pytest.skip(f"{name} is not in {TRACES} (TOLLGATE_TRACES names another place)")
    return path


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_mooncake_trace_is_milliseconds_lengths_and_blocks() -> None:
    calls = parse(mooncake((1000, 600, 20, [4, 5]), (2500, 512, 1, [4])))
    assert calls == [Call(0.0, 600, 20, (4, 5)), Call(1.5, 512, 1, (4,))]


def test_an_azure_trace_is_timestamps_and_lengths_and_shares_nothing() -> None:
    rows = ["2023-11-16 18:15:46.6805900,374,44\r\n", "2023-11-16 18:15:50.9951690,396,109\r\n"]
    first, second = parse([AZURE, *rows])
    assert (first.at, first.input_tokens, first.output_tokens) == (0.0, 374, 44)
    assert (second.at, second.input_tokens, second.output_tokens) == (pytest.approx(4.314579, abs=1e-6), 396, 109)
    assert set(first.blocks).isdisjoint(second.blocks)
    assert shared_tokens([first, second]) == 0


@pytest.mark.parametrize(
    "times",
    [
        ("2024-05-10 00:00:00.009930+00:00", "2024-05-10 02:00:01.009930+02:00"),
        ("2024-05-10 00:00:00", "2024-05-10 00:00:01"),
        ("2024-05-10 00:00:59.5", "2024-05-10 00:01:00.5"),
    ],
)
def test_timestamps_may_carry_an_offset_or_no_fraction(times: tuple[str, str]) -> None:
    first, second = parse([AZURE, *(f"{when},1,1\n" for when in times)])
    assert second.at - first.at == pytest.approx(1.0, abs=1e-5)


def test_requests_come_in_the_order_of_time_whatever_the_order_of_lines() -> None:
    calls = parse(mooncake((500, 1, 1, [1]), (100, 2, 1, [2]), (300, 3, 1, [3])))
    assert [(call.at, call.input_tokens) for call in calls] == [
        (0.0, 2),
        (pytest.approx(0.2), 3),
        (pytest.approx(0.4), 1),
    ]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "line 1: neither"),
        (["hello\n"], "line 1: neither"),
        (["a,b,c\n", "1,2,3\n"], "line 1: neither"),
        ([AZURE], "no request"),
        ([AZURE, "2023-11-16 18:15:46,374\n"], "line 2"),
        ([AZURE, "2023-11-16 18:15:46,1,1\n", "yesterday,1,1\n"], "line 3"),
        ([AZURE, "2023-11-16 18:15:46,-5,1\n"], "line 2: a length below nothing"),
        ([*mooncake((0, 1, 1, [1])), "{\n"], "line 2"),
        (['{"timestamp": 0, "input_length": 5, "output_length": 5}\n'], "line 1: 'hash_ids' is missing"),
        (['{"timestamp": 0, "input_length": "5", "output_length": 5, "hash_ids": []}\n'], "line 1: '5' is not a whole"),
        (['{"timestamp": null, "input_length": 5, "output_length": 5, "hash_ids": []}\n'], "line 1"),
        (['{"timestamp": NaN, "input_length": 5, "output_length": 5, "hash_ids": []}\n'], "line 1: the time is no"),
    ],
)
def test_what_is_no_trace_is_refused_with_its_line(lines: list[str], said: str) -> None:
    with pytest.raises(TraceError, match=said):
        parse(lines)


@given(st.lists(st.text(max_size=60), max_size=5))
def test_any_text_is_read_or_refused(lines: list[str]) -> None:
    for begun in ([], [AZURE], mooncake((0, 1, 1, [1]))):
        try:
            calls = parse([*begun, *lines])
        except TraceError:
            continue
        assert calls[0].at == 0.0


@given(st.floats(), st.integers(), st.integers(), st.lists(st.integers(), max_size=4))
def test_any_numbers_are_read_or_refused(at: float, tokens: int, more: int, blocks: list[int]) -> None:
    try:
        (call,) = parse(mooncake((at, tokens, more, blocks)))
    except TraceError:
        return
    assert (call.at, call.input_tokens, call.output_tokens, call.blocks) == (0.0, tokens, more, tuple(blocks))


# --- scaling ----------------------------------------------------------------------------------------------------------

CALLS = [Call(at, 1000, 100, (1, 2)) for at in (0.0, 1.0, 2.0, 3.0)]


def test_time_and_sizes_are_scaled() -> None:
    second = Scale(speed=2, input=0.5, output=0.1).apply(CALLS)[1]
    assert second == Call(0.5, 500, 10, (1, 2), block=BLOCK // 2)


def test_a_trace_is_capped_in_scaled_seconds_and_in_requests() -> None:
    assert len(Scale(speed=2, seconds=1.0).apply(CALLS)) == 2
    assert len(Scale(requests=3).apply(CALLS)) == 3
    assert len(Scale(seconds=1e-9).apply(CALLS)) == 1


def test_lengths_are_cut_and_never_nothing() -> None:
    (cut,) = Scale(max_input=300, max_output=7, requests=1).apply(CALLS)
    assert (cut.input_tokens, cut.output_tokens) == (300, 7)
    (tiny,) = Scale(input=1e-9, output=1e-9, requests=1).apply(CALLS)
    assert (tiny.input_tokens, tiny.output_tokens, list(pieces(tiny))) == (1, 1, [(1, 1)])


@pytest.mark.parametrize("wrong", [{"speed": 0}, {"input": -1}, {"seconds": 0}, {"requests": 0}, {"max_output": 0}])
def test_a_scale_below_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be above 0"):
        Scale(**wrong)  # type: ignore[arg-type]


def test_a_rate_becomes_a_speed() -> None:
    faster = Scale(speed=speed_for(40, CALLS)).apply(CALLS)
    assert len(faster) / faster[-1].at == pytest.approx(40)
    with pytest.raises(ValueError, match="above 0"):
        speed_for(0, CALLS)
    with pytest.raises(ValueError, match="without length"):
        speed_for(1, CALLS[:1])


# --- prefixes ---------------------------------------------------------------------------------------------------------


@given(
    st.integers(1, 20_000),
    st.lists(st.integers(0, 9), max_size=12),
    st.floats(0.001, 4),
    st.integers(1, 5000) | st.none(),
)
def test_pieces_add_up_to_the_prompt_in_the_order_of_its_blocks(
    tokens: int, blocks: list[int], scale: float, most: int | None
) -> None:
    (call,) = Scale(input=scale, max_input=most).apply([Call(0.0, tokens, 1, tuple(blocks))])
    found = list(pieces(call))
    assert sum(size for _, size in found) == call.input_tokens
    assert all(size > 0 for _, size in found)
    assert [block for block, _ in found] == (blocks or [-1])[: len(found)]
    assert all(size == call.block for _, size in found[:-1])


def test_only_a_common_beginning_is_shared() -> None:
    def call(*blocks: int) -> Call:
        return Call(0.0, 512 * len(blocks), 1, blocks)

    assert shared_tokens([call(1, 2, 3), call(1, 2, 4), call(9, 2, 3), call(1, 2, 3)]) == 512 * (2 + 0 + 3)


def test_scaling_keeps_prefixes_as_common_as_they_were() -> None:
    calls = [Call(0.0, 512 * 8, 1, (0, 1, 2, 3, 4, 5, 6, n)) for n in range(10, 20)]
    whole = shared_tokens(calls) / sum(call.input_tokens for call in calls)
    smaller = Scale(input=0.1).apply(calls)
    assert shared_tokens(smaller) / sum(call.input_tokens for call in smaller) == pytest.approx(whole, rel=0.02)


# --- the recorded ones ------------------------------------------------------------------------------------------------


def test_the_mooncake_conversation_trace() -> None:
    calls = read(shared("mooncake_conversation.jsonl"))
    assert len(calls) == 12_031
    assert calls[-1].at == pytest.approx(3536.999)
    assert all(len(list(pieces(call))) == len(call.blocks) for call in calls)
    share = shared_tokens(calls) / sum(call.input_tokens for call in calls)
    assert 0.3 < share < 0.5  # its authors report about 40 %


def test_the_azure_conversation_trace() -> None:
    calls = read(shared("azure_llm_conv_2023.csv"))
    assert len(calls) == 19_366
    assert 3400 < calls[-1].at < 3600
    assert all(later.at >= earlier.at for earlier, later in pairwise(calls))
