from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.workers.adapters import files
from tests.unit.workers.adapters.files import HIDDEN, RANK, adapter, base, loras
from workers.adapters.base import read_base
from workers.adapters.check import Finding, Room, check, rank_of
from workers.registry.digest import digest_of_artifact

Q_A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
Q_B = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"


@pytest.fixture
def on(tmp_path: Path) -> Path:
    return base(tmp_path / "base")


def found(directory: Path, on: Path, *rooms: Room) -> list[Finding]:
    return check(directory, read_base(on), digest_of_artifact(on), rooms)


def only(directory: Path, on: Path, *rooms: Room) -> Finding:
    (finding,) = found(directory, on, *rooms)
    return finding


def test_with_a_good_one_nothing_is_wrong(tmp_path: Path, on: Path) -> None:
    assert found(adapter(tmp_path / "a", on, r=8, weights=loras(8)), on) == []


def test_a_rank_between_those_of_the_engine_is_told(tmp_path: Path, on: Path) -> None:
    finding = only(adapter(tmp_path / "a", on), on)

    assert (finding.level, finding.what) == ("warning", "rank")
    assert "makes room for 8" in finding.message


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"use_dora": True}, "does not take DoRA"),
        ({"lora_bias": True}, "a bias of the LoRA layers"),
        ({"modules_to_save": ["lm_head"]}, "layers trained whole"),
        ({"layer_replication": [[0, 1]]}, "`layer_replication`"),
        ({"alora_invocation_tokens": [1]}, "activated LoRA"),
        ({"use_qalora": True}, "QALoRA"),
        ({"use_bdlora": {"a": 1}}, "block-diagonal"),
        ({"bias": "all"}, "takes no biases"),
        ({"init_lora_weights": "pissa"}, "`init_lora_weights: pissa` changed the base"),
        ({"trainable_token_indices": [5]}, "takes no trained tokens"),
    ],
)
def test_what_the_engine_does_not_take_is_refused(
    tmp_path: Path, on: Path, config: dict[str, Any], message: str
) -> None:
    errors = [one for one in found(adapter(tmp_path / "a", on, **config), on) if one.level == "error"]

    assert [one.what for one in errors] == ["features"]
    assert message in errors[0].message


@pytest.mark.parametrize("init", [True, False, "gaussian", "eva"])
def test_how_training_began_does_not_matter_where_the_base_stays_as_it_is(
    tmp_path: Path, on: Path, init: object
) -> None:
    assert only(adapter(tmp_path / "a", on, init_lora_weights=init), on).what == "rank"


def errors(directory: Path, on: Path, *rooms: Room) -> list[tuple[str, str]]:
    return [(one.what, one.message) for one in found(directory, on, *rooms) if one.level == "error"]


def test_a_rank_must_fit_every_worker(tmp_path: Path, on: Path) -> None:
    directory = adapter(tmp_path / "a", on, r=32, weights=loras(32))

    ((what, message),) = errors(directory, on, Room("small", 16), Room("large", 64), Room("elsewhere", None))
    assert what == "rank"
    assert "worker small takes 16 at most; start it with --max-lora-rank 32" in message
    (warning,) = [one for one in found(directory, on, Room("elsewhere", None)) if one.level == "warning"]
    assert "worker elsewhere is not started here" in warning.message


def test_the_largest_of_all_ranks_counts() -> None:
    assert rank_of({"r": 8, "rank_pattern": {"q_proj": 32, "k_proj": 2}}) == 32
    assert rank_of({"r": 8, "rank_pattern": None}) == 8


def test_a_rank_of_its_own_is_what_a_layer_must_have(tmp_path: Path, on: Path) -> None:
    weights = loras(8) | {Q_A: ("BF16", (16, HIDDEN), None), Q_B: ("BF16", (HIDDEN, 16), None)}

    assert found(adapter(tmp_path / "a", on, weights, r=8, rank_pattern={"q_proj": 16}), on) == []
    ((what, message),) = errors(adapter(tmp_path / "b", on, weights, r=8, rank_pattern={"up_proj": 16}), on)
    assert what == "layers"
    assert message.startswith("model.layers.0.mlp.up_proj: lora_A is 8×8, rank 16 on this base is 16×8")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({Q_A: ("BF16", (RANK, 24), None)}, "self_attn.q_proj: lora_A is 4×24, rank 4 on this base is 4×8"),
        ({Q_B: ("BF16", (24, RANK), None)}, "self_attn.q_proj: lora_B is 24×4, rank 4 on this base is 8×4"),
        ({Q_B: None}, "only one of its two matrices is there"),
        (
            {
                "base_model.model.x.k_proj.lora_A.weight": ("BF16", (RANK, 8), None),
                "base_model.model.x.k_proj.lora_B.weight": ("BF16", (8, RANK), None),
            },
            "the base has no linear layer x.k_proj",
        ),
        ({"base_model.model.lm_head.weight": ("BF16", (20, 8), None)}, "has base_model.model.lm_head.weight"),
        ({"base_model.model.model.embed_tokens.lora_embedding_A": ("BF16", (RANK, 20), None)}, "lora_embedding_A"),
    ],
)
def test_layers_must_be_those_of_the_base(tmp_path: Path, on: Path, weights: dict[str, Any], message: str) -> None:
    written = {name: one for name, one in {**loras(), **weights}.items() if one is not None}

    ((what, said),) = errors(adapter(tmp_path / "a", on, written), on)

    assert what == "layers"
    assert message in said


def test_a_module_without_weights_is_told(tmp_path: Path, on: Path) -> None:
    directory = adapter(tmp_path / "a", on, r=8, weights=loras(8), target_modules=["q_proj", "k_proj"])

    assert "names k_proj, of which" in only(directory, on).message


def test_experts_kept_in_one_are_not_judged(tmp_path: Path, on: Path) -> None:
    weights = loras(8) | {
        "base_model.model.m.experts.lora_A.weight": ("BF16", (64, 8), None),
        "base_model.model.m.experts.lora_B.weight": ("BF16", (8, 64), None),
    }

    assert only(adapter(tmp_path / "a", on, weights, r=8), on).message.startswith("m.experts: the shapes of experts")


def test_shapes_that_cannot_be_known_are_no_error(tmp_path: Path) -> None:
    opaque = base(tmp_path / "base", weights={"m.q_proj.qweight": ("I32", (2, 8), None)})

    assert errors(adapter(tmp_path / "a", opaque), opaque) == []


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (loras() | {Q_A: ("BF16", (RANK, HIDDEN), b"\xc0\x7f" * RANK * HIDDEN)}, "infinite or none"),
        (loras(dtype="F8_E4M3"), "weights of type F8_E4M3"),
        (
            {
                name: (dtype, shape, bytes(2 * shape[0] * shape[1]) if ".lora_B." in name else None)
                for name, (dtype, shape, _) in loras().items()
            },
            "every lora_B is zero",
        ),
    ],
)
def test_numbers_must_be_such_that_an_answer_comes_of_them(
    tmp_path: Path, on: Path, weights: dict[str, Any], message: str
) -> None:
    ((what, said),) = errors(adapter(tmp_path / "a", on, weights), on)

    assert what == "numbers"
    assert message in said


def test_weights_of_32_bits_are_told(tmp_path: Path, on: Path) -> None:
    directory = adapter(tmp_path / "a", on, r=8, weights=loras(8, "F32"))

    assert "32 bits" in only(directory, on).message


def test_the_base_must_be_the_one_it_was_trained_on(tmp_path: Path, on: Path) -> None:
    other = base(tmp_path / "other", {"rope_theta": 5})

    ((what, message),) = errors(adapter(tmp_path / "a", other), on)
    assert what == "base"
    assert "it was trained on other" in message


def test_without_a_manifest_the_base_cannot_be_told(tmp_path: Path, on: Path) -> None:
    directory = adapter(tmp_path / "a", r=8, weights=loras(8))

    assert only(directory, on).message.startswith("there is no manifest.json")
    (directory / "manifest.json").write_text("{}")
    assert only(directory, on).level == "error"


def test_where_a_quantized_version_comes_from_may_not_be_known(tmp_path: Path, on: Path) -> None:
    directory = adapter(tmp_path / "a", on, r=8, weights=loras(8))

    (finding,) = check(directory, read_base(on), None)
    assert (finding.level, finding.what) == ("warning", "base")


def test_one_that_has_learnt_nothing_is_told(tmp_path: Path, on: Path) -> None:
    directory = adapter(tmp_path / "a", r=8, weights=loras(8))
    files.manifest(on, before=1.0, after=1.5).write(directory)

    assert "held-out loss 1.0000 before and 1.5000 after" in only(directory, on).message


def test_a_tokenizer_of_its_own_is_refused_where_it_is_another(tmp_path: Path, on: Path) -> None:
    directory = adapter(tmp_path / "a", on)
    (directory / "tokenizer.json").write_bytes((on / "tokenizer.json").read_bytes())
    assert errors(directory, on) == []

    tokens = [{"id": 2, "content": "<tool>"}]
    written = {"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": tokens}
    (directory / "tokenizer.json").write_text(json.dumps(written))
    ((what, message),) = errors(directory, on)
    assert what == "tokenizer"
    assert "has 1 tokens that the base's has not" in message

    (directory / "added_tokens.json").write_text("{}")
    assert "it adds tokens" in errors(directory, on)[0][1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("adapter_model.safetensors", b"no tensors", "is not whole, or no safetensors file"),
        ("adapter_config.json", b"{}", "a rank (`r`) must be"),
        ("adapter_model.bin", b"", "may hold a program"),
    ],
)
def test_what_the_gateway_would_not_load_is_refused_with_its_words(
    tmp_path: Path, on: Path, name: str, content: bytes, message: str
) -> None:
    directory = adapter(tmp_path / "a", on)
    (directory / name).write_bytes(content)

    ((what, said),) = errors(directory, on)
    assert what == "files"
    assert message in said
