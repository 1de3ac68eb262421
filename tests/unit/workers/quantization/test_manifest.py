from __future__ import annotations

import json
from pathlib import Path

import pytest

from workers.quantization.manifest import (
    MANIFEST,
    Adapter,
    Asked,
    BadManifest,
    Base,
    Calibration,
    Manifest,
    Requires,
    asked_of,
    is_current,
    is_manifest,
    read_manifest,
)

MADE = Manifest(
    recipe="w8a8",
    quantization="w8a8",
    scheme="W8A8",
    parameters={"smoothing_strength": 0.5},
    base=Base(name="base", digest="sha256:1"),
    adapter=Adapter(name="sql", digest="sha256:2", rank=16, merged=True),
    calibration=Calibration(files=None, windows=32, length=512, sha256="3"),
    seed=1,
    threads=2,
    device="cpu",
    libraries={"torch": "1"},
    bits_per_weight=8.5,
    requires=Requires(
        loader="compressed-tensors", compute_capability=7.5, native_capability=7.5, cpu=True, weight_bytes=10
    ),
)


def written(directory: Path, manifest: Manifest = MADE) -> Path:
    directory.mkdir(exist_ok=True)
    manifest.write(directory)
    (directory / "config.json").write_text("{}")
    return directory


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    assert read_manifest(written(tmp_path)) == MADE
    assert is_manifest(tmp_path)


def test_the_same_manifest_has_the_same_bytes(tmp_path: Path) -> None:
    one, other = written(tmp_path / "a"), written(tmp_path / "b")

    assert (one / MANIFEST).read_bytes() == (other / MANIFEST).read_bytes()


@pytest.mark.parametrize(
    ("change", "current"),
    [
        ({}, True),
        ({"recipe": "fp8"}, False),
        ({"parameters": {"smoothing_strength": 0.8}}, False),
        ({"base_digest": "sha256:9"}, False),
        ({"adapter_digest": None, "merged": None}, False),
        ({"merged": False}, False),
        ({"calibration_files": "sha256:9"}, False),
        ({"windows": 64}, False),
        ({"length": 256}, False),
        ({"seed": 2}, False),
        ({"threads": 1}, False),
    ],
)
def test_current_means_made_the_same_way(tmp_path: Path, change: dict[str, object], current: bool) -> None:
    asked = Asked.model_validate(asked_of(MADE).model_dump() | change)

    assert is_current(written(tmp_path), asked) is current


def test_a_manifest_without_a_checkpoint_is_not_current(tmp_path: Path) -> None:
    (written(tmp_path) / "config.json").unlink()

    assert not is_current(tmp_path, asked_of(MADE))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "made by tollgate-worker quantize"),
        ("", "not the manifest"),
        ("[]", "not the manifest"),
        ("{}", "recipe"),
    ],
)
def test_no_manifest_or_a_broken_one_is_refused_and_not_current(
    tmp_path: Path, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / MANIFEST).write_text(content)

    with pytest.raises(BadManifest, match=message):
        read_manifest(tmp_path)
    assert not is_manifest(tmp_path)
    assert not is_current(tmp_path, asked_of(MADE))


def test_a_manifest_of_an_older_format_is_known_as_one_and_not_current(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(json.dumps({"recipe": "fp8", "base_sha256": "1"}))

    assert is_manifest(tmp_path)
    assert not is_current(tmp_path, asked_of(MADE))
