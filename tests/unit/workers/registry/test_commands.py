"""register, verify and registry, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.workers.registry.scene import FAILED, MODELS, artifact, config, evaluation
from workers.cli import main
from workers.registry.digest import digest_of_artifact
from workers.registry.store import Store


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("COLUMNS", "250")
    evaluation(tmp_path / "eval", artifact(tmp_path / "made"))
    config(tmp_path / "router_config")
    return tmp_path


def registering(*more: str, name: str = "int8") -> list[str]:
    return ["register", "made", "--evaluation", "eval", "--model", "scribe", "--version", name, "--by", "ada", *more]


def done(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(words) == code
    said = capsys.readouterr()
    return said.out + said.err


def as_json(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    assert main([*words, "--format", "json"]) == code
    return json.loads(capsys.readouterr().out)


def test_from_register_to_gc(here: Path, capsys: pytest.CaptureFixture[str]):
    digest = digest_of_artifact(here / "made")
    said = done(capsys, *registering())
    where = f"var/registry/artifacts/sha256/{digest[7:]}"
    assert f"scribe@int8 registered: {digest}" in said
    assert where in said
    assert "router_config/models.yaml:7" in said
    assert f"artifact: {where}" in (here / "router_config/models.yaml").read_text()
    assert "was registered before" in done(capsys, *registering())
    assert "is there already, verified" in done(capsys, *registering())
    listed = done(capsys, "registry", "list")
    assert all(word in listed for word in ("scribe@int8", digest[:19], "w8a8", "0.998", "passed", "ada"))
    [row] = as_json(capsys, "registry", "list")
    assert (row["name"], row["digest"], row["override"]) == ("scribe@int8", digest, None)
    shown = done(capsys, "registry", "show", "scribe/int8")
    assert all(word in shown for word in (digest, "divergence", "0.002", "model.safetensors", "llmcompressor 0.14.0"))
    assert as_json(capsys, "registry", "show", digest[:20])["record"]["digest"] == digest
    lineage = done(capsys, "registry", "lineage", "scribe@int8")
    assert "└─ scribe  sha256:baba" in lineage
    assert "revision c0ffee" in lineage
    assert [step["what"] for step in as_json(capsys, "registry", "lineage", "scribe@int8")] == ["scribe@int8", "scribe"]
    assert "as registered" in done(capsys, "verify", "scribe@int8")
    assert "gave up 0.0 MB" in done(capsys, "registry", "gc")


def test_lineage_goes_on_where_the_base_is_registered_too(here: Path, capsys: pytest.CaptureFixture[str]):
    base = artifact(here / "base", manifest=None)
    (base / "config.json").write_text('{"max_position_embeddings": 2048}')
    evaluation(here / "base-eval", base, recipe=None, quantization="none")
    done(
        capsys, "register", "base", "--evaluation", "base-eval", "--model", "scribe", "--version", "bf16", "--no-config"
    )
    manifest = {"recipe": "w8a8", "base": {"name": "scribe", "digest": digest_of_artifact(base)}}
    (here / "made" / "manifest.json").write_text(json.dumps(manifest))
    path = evaluation(here / "eval", here / "made") / "evaluation.json"
    found = json.loads(path.read_text())
    found["reference"]["digest"] = digest_of_artifact(base)
    path.write_text(json.dumps(found))
    done(capsys, *registering())
    chain = as_json(capsys, "registry", "lineage", "scribe@int8")
    assert [step["what"] for step in chain] == ["scribe@int8", "scribe@bf16"]


def test_what_was_changed_is_found_and_named(here: Path, capsys: pytest.CaptureFixture[str]):
    done(capsys, *registering())
    store = Store(here / "var/registry")
    there = store.artifact(digest_of_artifact(here / "made"))
    changes = {
        "model.safetensors": "has been changed: the same length",
        "config.json": "has been changed: 3 bytes",
        "sub/more.safetensors": "is missing",
        ".hidden": "was added",
    }
    (there / "model.safetensors").chmod(0o644)
    (there / "model.safetensors").write_text("weighty")
    (there / "config.json").unlink()
    (there / "config.json").write_text("{ }")
    (there / "sub/more.safetensors").unlink()
    (there / ".hidden").touch()
    said = done(capsys, "verify", code=1)
    for name, wrong in changes.items():
        assert f"{there.relative_to(here) / name}: {wrong}" in said
    assert len(as_json(capsys, "verify", "--all", code=1)["findings"]) == 4
    assert "repaired" in done(capsys, *registering())
    done(capsys, "verify", "scribe@int8")


def test_a_file_replaced_by_a_link_is_found(here: Path, capsys: pytest.CaptureFixture[str]):
    done(capsys, *registering())
    there = Store(here / "var/registry").artifact(digest_of_artifact(here / "made"))
    (there / "config.json").unlink()
    (there / "config.json").symlink_to(here / "made" / "config.json")
    assert "no longer a file of its own" in done(capsys, "verify", code=1)


@pytest.mark.parametrize("kind", ["record", "entry", "history", "artifact", "records"])
def test_so_are_changes_of_what_is_known(here: Path, capsys: pytest.CaptureFixture[str], kind: str):
    done(capsys, *registering())
    other = evaluation(here / "again", artifact(here / "made", "weights"), FAILED)
    done(capsys, *registering("--evaluation", str(other), "--override", "why not"))
    store = Store(here / "var/registry")
    digest = digest_of_artifact(here / "made")
    first, second = sorted((store.root / "names/versions/scribe/int8").iterdir())
    if kind in ("record", "entry"):
        path = store.record_paths(digest)[0] if kind == "record" else second
        path.chmod(0o644)
        path.write_bytes(path.read_bytes().replace(b"ada", b"eve"))
        expected = "has been changed"
    elif kind == "history":
        first.unlink()
        expected = "does not follow the entry before"
    elif kind == "artifact":
        store.artifact(digest).rename(here / "elsewhere")
        expected = "is missing; scribe@int8 stands for it"
    else:
        for path in store.record_paths(digest):
            path.unlink()
        expected = "is missing; scribe@int8 was registered with it"
        assert "UNREADABLE" in done(capsys, "registry", "list", code=1)
    assert expected in done(capsys, "verify", code=1)


def test_an_override_is_shown_wherever_the_version_is(here: Path, capsys: pytest.CaptureFixture[str]):
    evaluation(here / "eval", here / "made", FAILED)
    assert "has not passed: same-top" in done(capsys, *registering(), code=1)
    assert "--by NAME of who answers" in done(capsys, *registering("--override", "x")[:-4], "--override", "x", code=2)
    done(capsys, *registering("--override", "the demo needs it"))
    for command in (("registry", "list"), ("registry", "show", "scribe@int8"), ("registry", "lineage", "scribe@int8")):
        assert "ada: the demo needs it" in done(capsys, *command)
    assert "FAILED" in done(capsys, "registry", "list")


def test_gc_gives_up_what_names_have_left(here: Path, capsys: pytest.CaptureFixture[str]):
    before = digest_of_artifact(here / "made")
    done(capsys, *registering())
    evaluation(here / "eval", artifact(here / "made", "better"))
    assert "add --move" in done(capsys, *registering(), code=2)
    done(capsys, *registering("--move"))
    assert as_json(capsys, "registry", "gc") == []
    assert f"would give up artifact {before}" in done(capsys, "registry", "gc", "--superseded", "--dry-run")
    [swept] = as_json(capsys, "registry", "gc", "--superseded")
    assert (swept["what"], swept["why"]) == (f"artifact {before}", "superseded")
    assert Store(here / "var/registry").digests() == [digest_of_artifact(here / "made")]
    done(capsys, "verify")
    assert "2  2026" in done(capsys, "registry", "show", "scribe@int8")


def test_requirements_can_be_said(here: Path, capsys: pytest.CaptureFixture[str]):
    required = ["compute_capability=8.9", "driver=580.65", "cpu=false", "cpu_flags=avx2,amx_int8", "memory_gb=2"]
    done(capsys, *registering(*(word for text in required for word in ("--require", text))))
    written = yaml.safe_load((here / "router_config/models.yaml").read_text())
    assert written["models"]["scribe"]["versions"]["int8"]["requires"] == {
        "compute_capability": 8.9,
        "driver": "580.65",
        "cpu": False,
        "cpu_flags": ["avx2", "amx_int8"],
        "memory_gb": 2.0,
    }
    done(capsys, *registering("--require", "compute_capability=", "--require", "cpu_flags=", "--require", "memory_gb="))
    assert "requires" not in (here / "router_config/models.yaml").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["verify"], "var/registry holds no registry"),
        (["registry", "list"], "holds no registry"),
        (registering("--require", "magic=1"), "write KEY=VALUE with one of compute_capability, driver"),
        (registering("--require", "driver=x"), "--require driver:"),
        (registering("--require", "memory_gb=x"), "write a number"),
        (registering("--require", "compute_capability=8.95"), "compute_capability"),
        (registering(name="a b"), "'a b' cannot name a version"),
        (registering("--mlflow", "sqlite:///x"), "is not the address of an MLflow server"),
        (["register", "nothing", *registering()[2:]], "is no directory"),
    ],
)
def test_wrong_usage(here: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str):
    assert main(words) in (1, 2)
    assert message in capsys.readouterr().err
    assert not (here / "var").exists()
    assert (here / "router_config/models.yaml").read_text() == MODELS


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("scribe@int9", "is not registered in var/registry; there is scribe@int8"),
        ("scribe", "is not registered"),
        ("sha256:0000", "is not in var/registry"),
        ("sha256:", "digests; write more of it"),
    ],
)
def test_what_is_not_there(here: Path, capsys: pytest.CaptureFixture[str], what: str, message: str):
    done(capsys, *registering())
    evaluation(here / "eval", artifact(here / "made", "better"))
    done(capsys, *registering("--move"))
    assert message in done(capsys, "verify", what, code=2)


def test_names_with_slashes(here: Path, capsys: pytest.CaptureFixture[str]):
    done(capsys, *registering("--model", "org/scribe"))
    assert "as registered" in done(capsys, "verify", "org/scribe/int8")
    assert [row["name"] for row in as_json(capsys, "registry", "list")] == ["org/scribe@int8"]


def test_the_registry_and_the_configuration_may_be_elsewhere(here: Path, capsys: pytest.CaptureFixture[str]):
    elsewhere = here.parent / f"{here.name}-elsewhere"
    done(capsys, *registering("--registry", str(elsewhere), "--no-config"))
    assert (here / "router_config/models.yaml").read_text() == MODELS
    done(capsys, *registering("--registry", str(elsewhere)))
    assert f'artifact: "{elsewhere}/artifacts' in (here / "router_config/models.yaml").read_text()


def test_a_registry_that_holds_nothing_says_so(here: Path, capsys: pytest.CaptureFixture[str]):
    with Store(here / "var/registry").writing():
        pass
    assert done(capsys, "verify").startswith("nothing is registered")
