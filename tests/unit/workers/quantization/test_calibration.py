from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest

from workers.demo.corpus import HELD_OUT, Source, standard_library_sources
from workers.quantization import calibration
from workers.quantization.calibration import WINDOW, calibration_samples, digest_of_samples, samples_of_files
from workers.quantization.texts import BadCalibration


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


def test_windows_may_have_another_length() -> None:
    assert [len(sample) for sample in calibration_samples(2, 7, tokenize, render_chat, length=100)] == [100, 100]


def test_windows_longer_than_any_text_are_refused() -> None:
    with pytest.raises(BadCalibration, match="lower --length"):
        calibration_samples(2, 7, lambda _: [1, 2], render_chat, length=100)


@pytest.fixture
def texts(tmp_path: Path) -> list[Path]:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"text number {number}. "}) + "\n" for number in range(100)))
    return [path]


def test_files_are_packed_into_windows_by_seed(texts: list[Path]) -> None:
    once, again, other = (samples_of_files(texts, 3, 64, seed, tokenize, render_chat) for seed in (1, 1, 2))

    assert [len(sample) for sample in once] == [64] * 3
    assert once == again != other
    assert b"text number" in bytes(once[0])


@pytest.mark.parametrize(
    ("samples", "length", "remedy"), [(100, 64, "lower --samples to "), (1, 9999, "lower --length")]
)
def test_too_little_text_is_refused_with_what_it_is_enough_for(
    texts: list[Path], samples: int, length: int, remedy: str
) -> None:
    with pytest.raises(BadCalibration, match=rf"has \d+ tokens.*{remedy}"):
        samples_of_files(texts, samples, length, 1, tokenize, render_chat)


def test_empty_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" \n \n")

    with pytest.raises(BadCalibration, match="has 0 tokens"):
        samples_of_files([tmp_path / "a.txt"], 1, 8, 1, tokenize, render_chat)
