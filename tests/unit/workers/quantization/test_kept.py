from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import WorkerToolError
from workers.quantization.kept import Kept, kept_beside

FROM = {"base": "sha256:1", "seed": 1}


def interrupted(out: Path, results: dict[str, float], made_from: dict[str, object] = FROM) -> None:
    with suppress(KeyboardInterrupt), kept_beside(out, made_from) as kept:
        for name, value in results.items():
            kept.keep(name, value)
        raise KeyboardInterrupt


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    out = tmp_path / "out"
    interrupted(out, {"a 4": 0.5, "b 4": 0.25})

    with kept_beside(out, FROM) as kept:
        assert (kept.get("a 4"), kept.get("b 4"), kept.get("c 4")) == (0.5, 0.25, None)

    assert list(tmp_path.iterdir()) == []


def test_what_was_made_from_something_else_is_not_taken_and_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    interrupted(out, {"a 4": 0.5})
    interrupted(out, {"b 4": 0.5}, FROM | {"seed": 2})

    assert len(list(tmp_path.iterdir())) == 1
    with kept_beside(out, FROM) as kept:
        assert kept.get("a 4") is None


def test_an_interruption_before_the_first_result_leaves_nothing(tmp_path: Path) -> None:
    interrupted(tmp_path / "out", {})

    assert list(tmp_path.iterdir()) == []


def test_two_runs_do_not_share_an_output(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with kept_beside(out, FROM), pytest.raises(WorkerToolError, match="another run"), kept_beside(out, FROM):
        pass


def test_a_neighbours_results_are_left_alone(tmp_path: Path) -> None:
    interrupted(tmp_path / "out.b", {"a": 1.0})

    with kept_beside(tmp_path / "out", FROM):
        assert len(list(tmp_path.glob(".out.b.*"))) == 1


@given(st.data())
def test_a_line_that_was_cut_short_is_as_if_never_written(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("kept") / "a"
    kept = Kept(path)
    for number in range(3):
        kept.keep(f"layer {number}", number / 2)
    kept.close()
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])

    again = Kept(path)
    survived = whole[:cut].count(b"\n")
    assert [again.get(f"layer {number}") for number in range(3)] == [0.0, 0.5, 1.0][:survived] + [None] * (3 - survived)
    again.keep("layer 9", 9.0)
    again.close()

    last = Kept(path)
    assert last.get("layer 9") == 9.0
    last.close()


def test_a_line_of_something_else_ends_what_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text('["a", 1.0]\n{"b": 2}\n["c", 3.0]\n')
    kept = Kept(path)

    assert (kept.get("a"), kept.get("c")) == (1.0, None)
    kept.close()
