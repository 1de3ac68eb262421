from __future__ import annotations

import json
from pathlib import Path

import pytest

from workers.errors import WrongUsage
from workers.quantization.checks import check_base, check_output

CONFIG = json.dumps({"architectures": ["LlamaForCausalLM"]})
GOOD = {"config.json": CONFIG, "tokenizer.json": "{}", "model.safetensors": ""}


def checkpoint(directory: Path, files: dict[str, str | None]) -> Path:
    directory.mkdir()
    for name, content in files.items():
        if content is not None:
            (directory / name).write_text(content)
    return directory


def test_a_checkpoint_is_accepted(tmp_path: Path) -> None:
    check_base(checkpoint(tmp_path / "base", dict(GOOD)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config.json": None}, "has no config.json"),
        ({"config.json": "{"}, "is not JSON"),
        ({"config.json": "[1]"}, "names no architectures"),
        ({"config.json": "{}"}, "names no architectures"),
        ({"config.json": CONFIG[:-1] + ', "quantization_config": {}}'}, "is quantized already"),
        ({"tokenizer.json": None}, "has no tokenizer"),
        ({"model.safetensors": None}, "has no weights"),
    ],
)
def test_what_could_not_be_loaded_is_refused(tmp_path: Path, change: dict[str, str | None], message: str) -> None:
    base = checkpoint(tmp_path / "base", GOOD | change)

    with pytest.raises(WrongUsage, match=message):
        check_base(base)


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match="no such checkpoint directory"):
        check_base(tmp_path / "nothing")


def test_a_new_output_is_accepted_and_an_old_one_only_by_force(tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "base", dict(GOOD))
    out = tmp_path / "out"

    check_output(out, base, force=False)
    out.mkdir()
    check_output(out, base, force=True)
    with pytest.raises(WrongUsage, match="--force"):
        check_output(out, base, force=False)


@pytest.mark.parametrize("out", ["base", "base/../base", "."])
def test_the_base_is_never_overwritten(tmp_path: Path, out: str) -> None:
    base = checkpoint(tmp_path / "base", dict(GOOD))

    with pytest.raises(WrongUsage, match="would overwrite"):
        check_output(tmp_path / out, base, force=True)


def test_a_file_is_no_output_directory(tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "base", dict(GOOD))
    (tmp_path / "out").write_text("")

    with pytest.raises(WrongUsage, match="is a file"):
        check_output(tmp_path / "out", base, force=True)
