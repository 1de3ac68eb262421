from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.workers.quantization.checkpoints import CONFIG, checkpoint
from workers.errors import WrongUsage
from workers.quantization.checks import check_base, check_output, longest_context

GOOD = json.dumps(CONFIG)


def test_a_checkpoint_is_accepted(tmp_path: Path) -> None:
    assert check_base(checkpoint(tmp_path / "base"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "has no config.json"),
        ("config.json", "{", "is not JSON"),
        ("config.json", "[1]", "names no architectures"),
        ("config.json", "{}", "names no architectures"),
        ("config.json", '{"architectures": null}', "only models that continue a text"),
        ("config.json", '{"architectures": ["BertForMaskedLM"]}', "BertForMaskedLM.*only models that continue a text"),
        ("config.json", GOOD[:-1] + ', "quantization_config": {}}', "is quantized already"),
        ("adapter_config.json", "{}", "is a LoRA adapter"),
        ("tokenizer.json", None, "has no tokenizer"),
        ("tokenizer.json", '{"model": ', "is not JSON"),
        ("model.safetensors", None, "has no weights"),
        ("model.safetensors", "weights", "cut short"),
    ],
)
def test_what_could_not_be_loaded_is_refused(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    base = checkpoint(tmp_path / "base")
    if content is None:
        (base / name).unlink()
    else:
        (base / name).write_text(content)

    with pytest.raises(WrongUsage, match=message):
        check_base(base)


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match="no such checkpoint directory"):
        check_base(tmp_path / "nothing")


def test_a_new_output_is_accepted_and_an_old_one_only_by_force(tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "base")
    out = tmp_path / "out"

    check_output(out, base, force=False)
    out.mkdir()
    check_output(out, base, force=True)
    with pytest.raises(WrongUsage, match="--force"):
        check_output(out, base, force=False)


def test_only_a_quantized_checkpoint_is_replaced_even_by_force(tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "base")
    out = checkpoint(tmp_path / "out")

    with pytest.raises(WrongUsage, match="holds something else"):
        check_output(out, base, force=True)
    (out / "manifest.json").write_text('{"recipe": "fp8"}')
    check_output(out, base, force=True)


@pytest.mark.parametrize("out", ["base", "base/../base", "."])
def test_the_base_is_never_overwritten(tmp_path: Path, out: str) -> None:
    base = checkpoint(tmp_path / "base")

    with pytest.raises(WrongUsage, match="would overwrite"):
        check_output(tmp_path / out, base, force=True)


def test_nothing_is_written_into_the_base(tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "base")

    with pytest.raises(WrongUsage, match="is inside the checkpoint"):
        check_output(base / "int8", base, force=False)


def test_a_file_is_no_output_directory(tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "base")
    (tmp_path / "out").write_text("")

    with pytest.raises(WrongUsage, match="is a file"):
        check_output(tmp_path / "out", base, force=True)
    with pytest.raises(WrongUsage, match="cannot be written"):
        check_output(tmp_path / "out" / "int8", base, force=True)


def test_the_context_is_what_the_configuration_says(tmp_path: Path) -> None:
    assert longest_context(checkpoint(tmp_path / "a")) == 1024
    assert longest_context(checkpoint(tmp_path / "b", max_position_embeddings=None)) is None
