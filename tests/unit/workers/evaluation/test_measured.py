"""References that were measured before: found again only where everything is the same, never half written."""

from __future__ import annotations

import os
from pathlib import Path

from workers.evaluation.distributions import Position, Scored
from workers.evaluation.measured import KEPT, Kept, Measured, key_of, pack, unpack

SCORED = Scored.of([Position(-1.0, {5: -1.0, -7: -0.5}), Position(-2.0, {1: -2.0})])
MEASURED = Measured(engine="vllm 0.32.0", sample=(1, 2), windows=((4, 5, 1),), scored=pack([SCORED]))


def test_what_was_kept_is_found_again(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "cache")
    assert kept.find("a") is None
    kept.keep("a", MEASURED)
    found = kept.find("a")
    assert found == MEASURED
    assert found is not None
    assert list(unpack(found.scored)[0]) == list(SCORED)
    assert kept.find("b") is None


def test_a_damaged_one_is_measured_again(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.keep("a", MEASURED)
    (file,) = tmp_path.iterdir()
    whole = file.read_text()
    for damaged in (whole[:-9], "{}", whole.replace(MEASURED.scored[0].truths, "AAAA"), ""):
        file.write_text(damaged)
        assert kept.find("a") is None


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    for number in range(KEPT):
        kept.keep(str(number), MEASURED)
        os.utime(tmp_path / f"{number}.json", (number, number))
    assert kept.find("0") is not None  # used again, it is the newest
    kept.keep("new", MEASURED)
    assert kept.find("1") is None
    assert kept.find("0") is not None
    assert len(list(tmp_path.iterdir())) == KEPT


def test_a_directory_that_can_not_be_made_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    problem = Kept(tmp_path / "file" / "cache").keep("a", MEASURED)
    assert problem is not None
    assert "Not a directory" in problem


def test_a_key_depends_on_all_it_is_made_of() -> None:
    assert key_of({"a": 1, "b": [1, 2]}) == key_of({"b": [1, 2], "a": 1})
    assert key_of({"a": 1}) != key_of({"a": 2})
