from __future__ import annotations

import functools
import json

import pytest

from workers.demo.corpus import HELD_OUT, Source, standard_library_sources
from workers.quantization import calibration
from workers.quantization.calibration import WINDOW, calibration_samples, digest_of_samples


def tokenize(text: str) -> list[int]:
    return list(text.encode())


def render_chat(messages: list[dict[str, str]]) -> list[int]:
    return tokenize(json.dumps(messages))


@pytest.fixture(autouse=True)
def _read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sources are the same for all, and take two seconds to read."""
    monkeypatch.setattr(calibration, "standard_library_sources", sources)


@functools.cache
def sources() -> list[Source]:
    return standard_library_sources()


def test_samples_fill_the_window_and_alternate_code_and_conversation() -> None:
    samples = calibration_samples(4, 7, tokenize, render_chat)

    assert [len(sample) for sample in samples] == [WINDOW] * 4
    assert [bytes(sample).startswith(b'[{"role"') for sample in samples] == [False, True, False, True]


def test_the_seed_decides() -> None:
    once, again, other = (calibration_samples(3, seed, tokenize, render_chat) for seed in (1, 1, 2))

    assert once == again
    assert digest_of_samples(once) == digest_of_samples(again) != digest_of_samples(other)


def test_nothing_held_out_is_calibrated_on() -> None:
    held_out = [source.text.encode() for source in sources() if source.module in HELD_OUT]

    for sample in calibration_samples(20, 3, tokenize, render_chat)[::2]:
        assert not any(bytes(sample) in text for text in held_out)
