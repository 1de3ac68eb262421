from __future__ import annotations

from pathlib import Path

import pytest

from workers.quantization.manifest import MANIFEST, Manifest, digest_of, is_current


@pytest.fixture
def base(tmp_path: Path) -> Path:
    directory = tmp_path / "base"
    directory.mkdir()
    (directory / "a").write_text("one")
    (directory / "b").write_text("two")
    return directory


def test_the_digest_covers_names_and_contents(base: Path) -> None:
    before = digest_of(base)

    (base / "a").write_text("ONE")
    changed = digest_of(base)
    (base / "a").write_text("one")
    assert digest_of(base) == before
    (base / "b").rename(base / "c")

    assert len({before, changed, digest_of(base)}) == 3


@pytest.mark.parametrize(
    ("recipe", "seed", "samples", "current"),
    [("fp8", 1, 64, True), ("w8a8", 1, 64, False), ("fp8", 2, 64, False), ("fp8", 1, 32, False)],
)
def test_current_means_made_the_same_way(base: Path, recipe: str, seed: int, samples: int, current: bool) -> None:
    digest = digest_of(base)
    out = base.parent / "out"
    out.mkdir()
    Manifest("fp8", "FP8_DYNAMIC", "base", digest, 1, 64, None, {}).write(out)

    assert is_current(out, recipe, digest, seed, samples) is current


def test_another_base_is_not_current(base: Path) -> None:
    out = base.parent / "out"
    out.mkdir()
    Manifest("fp8", "FP8_DYNAMIC", "base", digest_of(base), 1, 64, None, {}).write(out)
    (base / "a").write_text("three")

    assert not is_current(out, "fp8", digest_of(base), 1, 64)


@pytest.mark.parametrize("content", [None, "", "[]", "{"])
def test_no_manifest_or_a_broken_one_is_not_current(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / MANIFEST).write_text(content)

    assert not is_current(tmp_path, "fp8", "digest", 1, 64)
