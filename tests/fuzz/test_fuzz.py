"""The corpus holds, and a short search from it finds nothing. Longer ones: `python -m tests.fuzz --seconds 600`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.fuzz import answers, requests
from tests.fuzz.search import TARGETS, corpus, search

CASES = [(target, name) for target in TARGETS for name in corpus(target)]


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.mark.parametrize(("target", "name"), CASES)
def test_the_corpus_holds_wherever_it_is_cut(target: str, name: str, loop: asyncio.AbstractEventLoop) -> None:
    case = corpus(target)[name]
    step = 1 + len(case) // 200
    TARGETS[target](loop, case, [[at] for at in range(1, len(case), step)] + [list(range(1, len(case)))])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_short_search_finds_nothing(target: str, seed: int) -> None:
    tried, found = search(target, seed, cases=600)
    assert (tried, found) == (600, [])


def test_what_is_looked_for_can_be_found(loop: asyncio.AbstractEventLoop) -> None:
    """Two parsers that read differently, and a relay that ends well without an end."""
    case = b"POST /tokenize HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nab"
    told = requests.play(loop, [case])
    assert told.requests == [requests.Request(b"/tokenize", b"ab")]
    with pytest.raises(AssertionError, match="another body"):
        requests.agree(told, requests.Reference([requests.Request(b"/tokenize", b"a")], ""))
    with pytest.raises(AssertionError, match="where we take"):
        requests.agree(told, requests.Reference([], "bad Content-Length"))
    with pytest.raises(AssertionError, match="no answer begins"):
        requests.answers(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: a\rb: c\r\n\r\n", True)
    with pytest.raises(AssertionError):
        answers.well_ended(answers.Outcome(200, b"", True, b"", "flowing"))
    with pytest.raises(AssertionError):
        answers.agree(answers.Outcome(200, b"ab", True, b"", "ended"), (200, b"a", ""))
