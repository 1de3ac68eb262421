from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.workers.quantization.checkpoints import SHAPES, checkpoint, safetensors
from workers.errors import WrongUsage
from workers.quantization.weights import INDEX, check_multiples, parameters_of, tensors_of
from workers.weight_files import read_header


def test_names_types_and_places_are_read(tmp_path: Path) -> None:
    tensors = tensors_of(checkpoint(tmp_path / "base"))

    assert {tensor.name: tensor.shape for tensor in tensors} == SHAPES
    assert tensors[-1].end == (tmp_path / "base/model.safetensors").stat().st_size
    assert parameters_of(tensors) == (128 * 128 + 128 * 256, 16 * 128 + 128)


@pytest.mark.parametrize(
    "name",
    ["lm_head.weight", "model.embed_tokens.weight", "transformer.wte.weight", "x.word_embeddings.weight", "a.bias"],
)
def test_embeddings_the_head_and_biases_are_not_quantized(tmp_path: Path, name: str) -> None:
    assert parameters_of(tensors_of(checkpoint(tmp_path / "base", {name: (8, 8)}))) == (0, 64)


@given(st.data())
def test_no_file_that_is_cut_short_is_taken_for_a_whole_one(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.safetensors"
    whole = safetensors({"a": (3, 5), "b": (2,)})
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])

    with pytest.raises(WrongUsage, match="again"):
        read_header(path)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_with_a_reason(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "a.safetensors"
    path.write_bytes(content)

    with suppress(WrongUsage):  # and nothing else
        assert read_header(path) == []


@pytest.mark.parametrize(
    "header",
    [
        [],
        {"a": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 9]}},
        {"a": {"dtype": "BF16", "shape": [4], "data_offsets": [8, 16]}},
        {"a": {"dtype": "Q7", "shape": [4], "data_offsets": [0, 8]}},
        {"a": {"dtype": "BF16", "shape": [-4], "data_offsets": [0, 8]}},
        {"a": {"dtype": "BF16", "shape": [4]}},
        {"a": 1},
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, header: object) -> None:
    head = json.dumps(header).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(head).to_bytes(8, "little") + head + bytes(16))

    with pytest.raises(WrongUsage, match="again"):
        read_header(path)


def test_a_shard_that_the_index_names_and_that_is_missing_is_refused(tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "base")
    (base / INDEX).write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}}))

    with pytest.raises(WrongUsage, match="model-00002"):
        tensors_of(base)


@pytest.mark.parametrize("content", ["{", "[]", '{"weight_map": 3}'])
def test_a_broken_index_is_refused(tmp_path: Path, content: str) -> None:
    base = checkpoint(tmp_path / "base")
    (base / INDEX).write_text(content)

    with pytest.raises(WrongUsage, match="broken"):
        tensors_of(base)


def test_a_checkpoint_without_safetensors_is_refused(tmp_path: Path) -> None:
    base = checkpoint(tmp_path / "base")
    (base / "model.safetensors").rename(base / "pytorch_model.bin")

    with pytest.raises(WrongUsage, match="has no weights"):
        tensors_of(base)


def test_groups_must_divide_the_inputs_of_every_layer(tmp_path: Path) -> None:
    tensors = tensors_of(checkpoint(tmp_path / "base", {"a.q_proj.weight": (8, 192), "lm_head.weight": (8, 100)}))

    check_multiples(tensors, 64, "nf4")
    with pytest.raises(WrongUsage, match=r"multiple of 128.*a\.q_proj\.weight with 192"):
        check_multiples(tensors, 128, "w4a16-gptq")
