"""What may be loaded as an adapter: from where, and of which files."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fleet.adapter_check import NotAnAdapter, complaint, examine, is_beneath, resolve, roots, unfit
from tests.adapter_files import CONFIG, PREFIX, head, safetensors, write_adapter

DEMO = Path(__file__).parents[4] / "workers" / "demo" / "checkpoints"


# Where it lies


def test_a_directory_beneath_an_allowed_one_is_found_links_followed(tmp_path: Path) -> None:
    real = write_adapter(tmp_path / "store" / "team" / "a")
    (tmp_path / "allowed").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "latest").symlink_to(real)
    for path in (real, tmp_path / "allowed" / "team" / "a", tmp_path / "store" / "latest"):
        assert resolve(str(path), [str(tmp_path / "allowed")]) == str(real)
    assert resolve(f"{real}/./", [str(tmp_path / "store")]) == str(real)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("adapters/a", "absolute"),
        ("", "printable"),
        ("/srv\0/a", "printable"),
        ("/srv/a\n", "printable"),
        ("/srv/\udc80", "printable"),
        ("/" + "a" * 1000, "1 to 1000"),
        ("{allowed}/../secret", r"`\.\.`"),
        ("{allowed}/a/../../secret", r"`\.\.`"),
        ("{allowed}", "beneath"),
        ("{allowed}-other/a", "beneath"),
        ("/etc", "beneath"),
        ("{allowed}/link", "beneath"),
        ("{allowed}/none", "put the adapter there"),
        ("{allowed}/file", "put the adapter there"),
    ],
)
def test_any_other_path_is_refused(tmp_path: Path, path: str, says: str) -> None:
    allowed = tmp_path / "allowed"
    for other in (allowed, tmp_path / "allowed-other" / "a", tmp_path / "secret"):
        other.mkdir(parents=True)
    (allowed / "link").symlink_to(tmp_path / "secret")
    (allowed / "file").write_text("")
    with pytest.raises(NotAnAdapter, match=says):
        resolve(path.replace("{allowed}", str(allowed)), [str(allowed)])


def test_what_is_outside_is_refused_in_the_same_words_whether_it_is_there_or_not(tmp_path: Path) -> None:
    (tmp_path / "allowed").mkdir()
    said: set[str] = set()
    for path in ("/etc", "/no/such/place"):
        with pytest.raises(NotAnAdapter) as refused:
            resolve(path, [str(tmp_path / "allowed")])
        said.add(str(refused.value))
    assert len(said) == 1


PARTS = st.lists(st.sampled_from(["..", ".", "", "a", "b", "out", "up", "allowed", "secret"]), max_size=8)


@given(PARTS, st.booleans())
def test_nothing_leads_out(tmp_path_factory: pytest.TempPathFactory, parts: list[str], is_absolute: bool) -> None:
    base = tmp_path_factory.getbasetemp() / "leads-out"
    allowed, secret = base / "allowed", base / "secret"
    if not base.exists():
        (allowed / "a" / "b").mkdir(parents=True)
        (secret / "a").mkdir(parents=True)
        (allowed / "out").symlink_to(secret)
        (allowed / "a" / "up").symlink_to(base)
    path = "/".join([str(allowed) if is_absolute else "allowed", *parts])
    try:
        found = resolve(path, [str(allowed)])
    except NotAnAdapter:
        return
    assert is_absolute
    assert found == os.path.realpath(found)
    assert os.path.commonpath([found, os.path.realpath(allowed)]) == os.path.realpath(allowed) != found


@given(st.text(alphabet="/.ab", max_size=12))
def test_a_kept_path_is_beneath_only_without_detours(rest: str) -> None:
    is_so = is_beneath(f"/srv/{rest}", roots(["/srv"]))
    assert is_so == (f"/srv/{rest}" == os.path.normpath(f"/srv/{rest}") and not rest.startswith("/") and bool(rest))


def test_the_root_may_be_allowed_and_nothing_need_be() -> None:
    assert is_beneath("/a", ["/"])
    assert not is_beneath("/a", [])


# What it is


@pytest.mark.parametrize("name", ["scribe-sql", "scribe-support"])
def test_real_adapters_are_well(name: str) -> None:
    examine(str(DEMO / name))


def test_what_peft_may_write_is_well(tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "a", rank_pattern={"k_proj": 2}, target_modules="all-linear", extra=[1])
    (path / "README.md").write_text("")
    (path / "more").mkdir()
    assert complaint(str(path)) == ""


def broken(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda path: (path / name).write_bytes(content)


def configured(**changes: Any) -> Callable[[Path], object]:
    return broken("adapter_config.json", json.dumps({**CONFIG, **changes}).encode())


def weights(content: bytes) -> Callable[[Path], object]:
    return broken("adapter_model.safetensors", content)


def of(changes: dict[str, Any]) -> Callable[[Path], object]:
    """The first tensor says something else of itself."""
    found = head()
    found[f"{PREFIX}.lora_A.weight"].update(changes)
    return weights(safetensors(found, bytes(64)))


def linked(name: str) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        (path / name).rename(path.parent / "elsewhere")
        (path / name).symlink_to(path.parent / "elsewhere")

    return make


def pipe(path: Path) -> None:
    (path / "adapter_config.json").unlink()
    os.mkfifo(path / "adapter_config.json")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: (path / "adapter_config.json").unlink(), "no adapter_config.json"),
        (lambda path: (path / "adapter_model.safetensors").unlink(), "save the adapter as safetensors"),
        (broken("adapter_model.bin", pickle.dumps({})), "pickle"),
        (broken("training_args.BIN", b""), "delete it"),
        (broken("x.pt", b""), "pickle"),
        (linked("adapter_config.json"), "not a link"),
        (linked("adapter_model.safetensors"), "not a link"),
        (pipe, "no regular file"),
        (broken("adapter_config.json", b"{"), "not JSON"),
        (broken("adapter_config.json", b"[" * 100_000), "not JSON"),
        (broken("adapter_config.json", b"[]"), "not a JSON object"),
        (broken("adapter_config.json", b" " * (1024 * 1024 + 1)), "larger"),
        (configured(peft_type="IA3"), "LORA"),
        (configured(r=0), "`r`"),
        (configured(r=513), "`r`"),
        (configured(r=True), "`r`"),
        (configured(r="4"), "`r`"),
        (configured(r=None), "`r`"),
        (configured(rank_pattern={"q": -1}), "`r`"),
        (configured(rank_pattern=[4]), "rank_pattern"),
        (configured(lora_alpha=0), "lora_alpha"),
        (configured(lora_alpha="x\x1b[31m"), r"lora_alpha.*\\x1b"),
        (configured(target_modules=[]), "target_modules"),
        (configured(target_modules=[1]), "target_modules"),
        (configured(target_modules=None), "target_modules"),
        (configured(r=3), "rank 4"),
        (weights(b""), "not whole"),
        (weights(b"\xff" * 8), "not whole"),
        (weights((17 * 1024 * 1024).to_bytes(8, "little") + bytes(18 * 1024 * 1024)), "head"),
        (weights(pickle.dumps({"a": [0] * 100})), "not whole"),
        (weights(safetensors([], b"")), "not a JSON object"),
        (weights(safetensors({"__metadata__": {}}, b"")), "no tensors"),
        (weights(safetensors(head(), bytes(63))), "not whole"),
        (weights(safetensors(head(), bytes(65))), "not whole"),
        (weights((3).to_bytes(8, "little") + b"{a}"), "not JSON"),
        (of({"dtype": "F16"}), "makes no sense"),
        (of({"dtype": "F7"}), "makes no sense"),
        (of({"shape": [4, -2]}), "makes no sense"),
        (of({"shape": [4, 2.0]}), "makes no sense"),
        (of({"shape": "4"}), "makes no sense"),
        (of({"shape": [1] * 9}), "makes no sense"),
        (of({"data_offsets": [0]}), "makes no sense"),
        (of({"data_offsets": [32, 64]}), "overlap"),
        (weights(safetensors({"a": 1}, b"")), "makes no sense"),
        (broken("more.safetensors", b"x"), "more.safetensors is not whole"),
    ],
)
def test_what_is_broken_or_hostile_is_told(tmp_path: Path, spoil: Callable[[Path], object], says: str) -> None:
    path = write_adapter(tmp_path / "a")
    spoil(path)
    with pytest.raises(NotAnAdapter, match=says):
        examine(str(path))


def test_a_crowd_of_files_is_refused(tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "a")
    for number in range(64):
        (path / f"{number}.txt").write_text("")
    assert "more than 64 files" in complaint(str(path))


def test_a_directory_that_became_a_link_or_went_is_refused(tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "a")
    path.rename(tmp_path / "b")
    assert "cannot be read" in complaint(str(path))
    path.symlink_to(tmp_path / "b")
    assert "symbolic link" in complaint(str(path))


def test_what_no_engine_can_load_is_unfit_and_the_rest_is_the_operators_choice(tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "a", r=4096)
    assert complaint(str(path))
    assert unfit(str(path)) == ""
    weights = path / "adapter_model.safetensors"
    whole = weights.read_bytes()
    (tmp_path / "blob").write_bytes(whole)
    weights.unlink()
    weights.symlink_to(tmp_path / "blob")
    assert unfit(str(path)) == ""
    (tmp_path / "blob").write_bytes(whole[:-1])
    assert "not whole" in unfit(str(path))
    weights.unlink()
    assert "no weights" in unfit(str(path))
    (path / "adapter_model.bin").write_bytes(b"")
    assert unfit(str(path)) == ""
    (path / "adapter_config.json").write_text("[]")
    assert "not a JSON object" in unfit(str(path))
    (path / "adapter_config.json").unlink()
    assert "there is no adapter_config.json" in unfit(str(path))


@pytest.mark.parametrize("path", ["/nowhere/at/all", "org/on-a-hub", "\0"])
def test_what_is_not_to_be_seen_here_is_the_engines_to_judge(path: str, tmp_path: Path) -> None:
    assert unfit(path) == unfit(str(tmp_path)) == ""


@given(st.data())
def test_any_bytes_are_an_adapter_or_none(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A whole one with a few bytes changed, or anything: never another exception."""
    path = write_adapter(tmp_path_factory.getbasetemp() / "any-bytes" / "a")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        content = bytearray((path / name).read_bytes())
        for at, byte in data.draw(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3)):
            content[at % len(content)] = byte
        (path / name).write_bytes(data.draw(st.one_of(st.just(bytes(content)), st.binary(max_size=40))))
    assert isinstance(complaint(str(path)), str)
    assert isinstance(unfit(str(path)), str)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*CONFIG, "rank_pattern"]), JSON), JSON)
def test_any_json_is_an_adapter_or_none(
    tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any], tensor: object
) -> None:
    path = write_adapter(tmp_path_factory.getbasetemp() / "any-json" / "a", **config)
    assert isinstance(complaint(str(path)), str)
    write_adapter(path)
    (path / "adapter_model.safetensors").write_bytes(safetensors({"a": tensor}, b""))
    assert complaint(str(path))
    assert isinstance(unfit(str(path)), str)
