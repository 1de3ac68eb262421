from __future__ import annotations

import pytest

from workers.demo.examination import Examination, bits_per_byte, unigram_perplexity


def test_a_uniform_text_is_as_perplexing_as_its_vocabulary_is_large() -> None:
    assert unigram_perplexity([0, 1, 2, 3] * 10_000, [3, 2, 1, 0], 4) == pytest.approx(4, rel=1e-3)


def test_an_unseen_token_is_surprising_but_possible() -> None:
    seen, unseen = (unigram_perplexity([0, 0, 1], [token], 3) for token in (0, 2))

    assert seen == pytest.approx(2)
    assert unseen == pytest.approx(6)


def test_bits_per_byte_do_not_depend_on_how_the_text_is_cut() -> None:
    assert bits_per_byte(perplexity=256, tokens=100, size=100) == pytest.approx(8)
    assert bits_per_byte(perplexity=65536, tokens=50, size=100) == pytest.approx(8)


def test_a_card_holds_rounded_numbers() -> None:
    assert Examination(10, 1.23456789, 2, 0.5).as_json() == {
        "held_out_tokens": 10,
        "perplexity": 1.2346,
        "unigram_perplexity": 2,
        "bits_per_byte": 0.5,
    }
