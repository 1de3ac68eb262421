"""What is read at its place is what the parser finds there, whatever came before."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.protocol.endings import MAX_ENDINGS, MAX_LEARNT, Ending, Endings
from gateway.protocol.usage import PARSED_WHOLE_BYTES, Usage, find_usage

PADDING = "x" * PARSED_WHOLE_BYTES

counts = st.integers(0, 10**14) | st.sampled_from(
    [0, 7, 998, 1000, 2000, 10**12, -1, 0.5, 1e30, None, True, "7", ":7,"]
)
usages = st.dictionaries(
    st.sampled_from(
        [
            *("prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens"),
            *("cache_read_input_tokens", "cache_creation_input_tokens", "1", "usage"),
        ]
    ),
    counts,
    max_size=6,
)
details = st.fixed_dictionaries({}, optional={"cached_tokens": counts, "other": counts})
endings = st.fixed_dictionaries(
    {"usage": usages},
    optional={"usage\\": counts, "metrics": counts, "response": st.just({"usage": {"input_tokens": 5}}), "e": usages},
)


@st.composite
def shapes(draw: st.DrawFn) -> tuple[str, str]:
    """Where a document's numbers stand, and how it is written."""
    ending = draw(endings)
    for key in ("prompt_tokens_details", "input_tokens_details"):
        if draw(st.booleans()):
            items = list(ending["usage"].items())
            at = draw(st.integers(0, len(items)))
            ending["usage"] = dict([*items[:at], (key, draw(details)), *items[at:]])
    document: Any = {"choices": [PADDING], **ending}
    if draw(st.booleans()):
        document = draw(st.sampled_from([{"nested": document}, [document], {"text": json.dumps(document)}]))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,", " : ")]))
    return json.dumps(document, separators=separators), draw(st.sampled_from(["", " ", "}", "\n", ","]))


@given(shapes(), st.lists(st.lists(st.integers(0, 10**13).map(str) | st.sampled_from(["00", "007", ""])), max_size=4))
@example(
    (f'{{"c":"{PADDING}","usage":{{"prompt_tokens":7,"completion_tokens":8}}}}', ""), [["998", "1000"], ["5", "06"]]
)
@example((f'{{"c":"{PADDING}","usage":{{"prompt_tokens" :998,"a":1,"b":2,"c":3,"d":4,"e":5}}}}', ""), [["1"] * 5])
def test_answers_of_one_shape_have_the_usage_that_is_found_in_each(
    shape: tuple[str, str], numbers: list[list[str]]
) -> None:
    text, surplus = shape
    engine = Endings()
    parts = text.split(":7")
    for values in [[], *numbers]:
        filled = [*values, *["7"] * len(parts)][: len(parts) - 1]
        body = "".join([f"{part}:{value}" for part, value in zip(parts, filled, strict=False)]) + parts[-1] + surplus
        assert engine.find_usage(body.encode()) == find_usage(body.encode())
        assert engine.find_usage(body.encode()) == find_usage(body.encode()), "once it is learnt, too"


def answer(prompt: object, cached: object, output: object, *, end: str = "null") -> bytes:
    return (
        f'{{"choices":[{{"message":{{"content":"{PADDING}"}}}}],"usage":{{"prompt_tokens":{prompt},"total_tokens":9,'
        f'"completion_tokens":{output},"prompt_tokens_details":{{"cached_tokens":{cached}}}}},"metrics":{end}}}'
    ).encode()


def test_the_second_answer_is_read_without_the_parser() -> None:
    engine = Endings()
    assert engine.find_usage(answer(164, 160, 16)) == Usage(164, 160, 16)
    (learnt,) = engine._known
    assert isinstance(learnt, Ending)
    assert learnt.read(answer(3, 1, 999_999_999_999)) == Usage(3, 1, 999_999_999_999)
    assert learnt.read(answer(3, 5, 0)) == Usage(3, 3, 0), "no more is cached than there is"


@pytest.mark.parametrize("odd", ["01", "", "-1", "1.5", "null", "1000000000000", '"1"', "1e3", " 1"])
def test_what_is_no_count_is_left_to_the_parser(odd: str) -> None:
    engine = Endings()
    engine.find_usage(answer(164, 160, 16))
    (learnt,) = engine._known
    for body in (answer(odd, 1, 2), answer(1, odd, 2), answer(1, 2, odd)):
        assert learnt.read(body) is None
        assert engine.find_usage(body) == find_usage(body)


def test_a_text_that_ends_in_an_answer_is_none() -> None:
    engine = Endings()
    engine.find_usage(answer(164, 160, 16))
    (learnt,) = engine._known
    ending = answer(5, 4, 3)[answer(5, 4, 3).rindex(b'"usage"') :]
    assert learnt.read(b"{" + ending) == Usage(5, 4, 3)
    for body in (ending, b"\\" + ending, b'{"text":"' + PADDING.encode() + b"\\" + ending):
        assert learnt.read(body) is None
        assert engine.find_usage(body) == find_usage(body)


def test_a_few_endings_are_kept_and_not_learnt_for_ever() -> None:
    engine = Endings()
    for number in range(MAX_LEARNT):
        end = f'"{"y" * number}"'
        assert engine.find_usage(answer(1, 1, number, end=end)) == Usage(1, 1, number)
        assert len(engine._known) <= MAX_ENDINGS
    known = engine._known
    assert engine.find_usage(answer(1, 1, 5, end="true")) == Usage(1, 1, 5)
    assert engine._known is known
