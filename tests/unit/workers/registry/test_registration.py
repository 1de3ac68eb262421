"""What may be registered, what is then known of it, and what is in the way of others."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pytest
import yaml

from gateway import config as gateway_config
from tests.unit.workers.registry.scene import (
    AT,
    BASE,
    FAILED,
    MANIFEST,
    MODELS,
    NAME,
    PASSED,
    UNJUDGED,
    artifact,
    asked,
    config,
    evaluation,
)
from workers.errors import WorkerToolError, WrongUsage
from workers.evaluation.result import CannotRead
from workers.registry.audit import audit
from workers.registry.digest import CannotDigest, digest_of_artifact
from workers.registry.files import Busy
from workers.registry.lineage import Refused
from workers.registry.models_yaml import CannotWrite
from workers.registry.record import Override, Requires
from workers.registry.registration import Asked, register
from workers.registry.store import Name, NameTaken, NotStored, Store


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return artifact(tmp_path / "scribe-int8")


@pytest.fixture
def passed(made: Path, tmp_path: Path) -> Path:
    return evaluation(tmp_path / "evaluation", made)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "registry")


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_what_has_passed_is_stored_recorded_named_and_written(made: Path, passed: Path, store: Store, tmp_path: Path):
    directory = config(tmp_path / "config")
    done = register(asked(made, passed, config=directory), store)
    digest = digest_of_artifact(made)
    assert contents(done.placed.path) == contents(made)
    assert digest_of_artifact(done.placed.path) == digest == done.record.digest
    [entry] = store.history(NAME)
    assert (entry.digest, entry.by, entry.at, entry.moved) == (digest, "ada", AT, False)
    record = store.record(digest, entry.record)
    assert record.base is not None
    assert (record.base.name, record.base.digest, record.base.revision) == ("scribe", BASE, "c0ffee")
    assert (record.recipe, record.calibration_sha256, record.quality) == ("w8a8", "ca" * 32, 0.998)
    assert record.libraries == {"llmcompressor": "0.14.0"}
    assert (record.engine, record.engine_libraries) == ("vllm 0.32.0", {"torch": "2.13.0+cpu"})
    assert record.requires == Requires(compute_capability=7.5, cpu_flags=("avx2",), memory_bytes=5_000_001)
    assert [gate.gate for gate in record.gates] == ["divergence"]
    assert record.manifest == MANIFEST
    assert record.evaluation["candidate"]["digest"] == digest
    assert audit(store, [digest]) == []
    text = (directory / "models.yaml").read_text()
    assert text.startswith(MODELS)
    assert yaml.safe_load(text)["models"]["scribe"]["versions"]["int8"] == {
        "artifact": str(done.placed.path),
        "quantization": "w8a8",
        "quality": 0.998,
        "digest": digest,
        "requires": {"compute_capability": 7.5, "cpu_flags": ["avx2"], "memory_gb": 0.006},
    }
    assert done.written is not None
    assert text.splitlines()[done.written.line - 1] == "      int8:"
    version = gateway_config.load(directory, {}).models["scribe"].versions["int8"]
    assert (version.digest, version.requires.memory_bytes) == (digest, 6_000_000)


def test_twice_is_once(made: Path, passed: Path, store: Store, tmp_path: Path):
    directory = config(tmp_path / "config")
    register(asked(made, passed, config=directory), store)
    before = contents(store.root), contents(directory)
    again = register(asked(made, passed, config=directory, at="2026-11-22T12:00:00+00:00"), store)
    assert (again.named, again.placed.reused) == (False, True)
    assert again.record.at == AT
    assert again.written is not None
    assert not again.written.changed
    after = contents(store.root), contents(directory)
    assert {path: content for path, content in after[0].items() if path != ".lock"} == {
        path: content for path, content in before[0].items() if path != ".lock"
    }
    assert after[1] == before[1]


def test_a_new_evaluation_of_the_same_bytes_is_a_new_step_of_the_history(
    made: Path, passed: Path, store: Store, tmp_path: Path
):
    register(asked(made, passed), store)
    other = evaluation(tmp_path / "other", made, PASSED, UNJUDGED.model_copy(update={"optional": True}))
    assert register(asked(made, other), store).named
    assert [(entry.number, entry.moved) for entry in store.history(NAME)] == [(1, False), (2, False)]
    assert len(store.digests()) == 1


def test_a_name_moves_only_when_asked_and_the_history_keeps_both(
    made: Path, passed: Path, store: Store, tmp_path: Path
):
    register(asked(made, passed), store)
    other = artifact(tmp_path / "other", "better")
    proof = evaluation(tmp_path / "proof", other)
    before = contents(store.root)
    with pytest.raises(NameTaken, match=r"scribe@int8 is sha256:.* since 2026.*registered by ada.*--move"):
        register(asked(other, proof), store)
    assert contents(store.root).keys() == before.keys()
    register(asked(other, proof, move=True, by="bob"), store)
    history = store.history(NAME)
    assert [(entry.digest, entry.moved, entry.by) for entry in history] == [
        (digest_of_artifact(made), False, "ada"),
        (digest_of_artifact(other), True, "bob"),
    ]
    register(asked(made, passed, move=True), store)
    assert [entry.number for entry in store.history(NAME)] == [1, 2, 3]
    assert audit(store, store.digests()) == []


@pytest.mark.parametrize(
    ("verdicts", "message"),
    [
        ((PASSED, FAILED), r"has not passed: same-top: 93 %, must be at least 96 %"),
        ((PASSED, UNJUDGED), r"task sql could not be judged \(no examples\)"),
    ],
)
def test_what_has_not_passed_is_refused(made: Path, store: Store, tmp_path: Path, verdicts: tuple, message: str):
    proof = evaluation(tmp_path / "evaluation", made, *verdicts)
    with pytest.raises(Refused, match=message + r".*--override REASON --by NAME"):
        register(asked(made, proof), store)
    assert not store.root.exists()


def test_what_no_gate_has_judged_is_refused(made: Path, store: Store, tmp_path: Path):
    proof = evaluation(tmp_path / "evaluation", made)
    written = json.loads((proof / "evaluation.json").read_text())
    (proof / "evaluation.json").write_text(json.dumps(written | {"verdicts": []}))
    with pytest.raises(Refused, match="no gate has judged it"):
        register(asked(made, proof), store)


def test_a_failed_gate_can_be_overridden_on_record(made: Path, store: Store, tmp_path: Path):
    proof = evaluation(tmp_path / "evaluation", made, FAILED)
    override = Override(by="eve", reason="the demo needs it")
    register(asked(made, proof, override=override), store)
    [entry] = store.history(NAME)
    record = store.record(entry.digest, entry.record)
    assert (record.passed, record.override) == (False, override)


def test_there_is_nothing_to_override_where_all_have_passed(made: Path, passed: Path, store: Store):
    with pytest.raises(WrongUsage, match="nothing to override"):
        register(asked(made, passed, override=Override(by="eve", reason="x")), store)


def test_an_override_is_for_gates_alone(made: Path, store: Store, tmp_path: Path):
    proof = evaluation(tmp_path / "evaluation", made, FAILED, digest=BASE)
    with pytest.raises(Refused, match="the evaluation is of another artifact"):
        register(asked(made, proof, override=Override(by="eve", reason="x")), store)


def test_an_evaluation_of_other_bytes_is_refused(made: Path, passed: Path, store: Store):
    (made / "model.safetensors").write_text("changed")
    with pytest.raises(Refused, match=r"is of another artifact \(sha256:.*evaluate it as it is now"):
        register(asked(made, passed), store)
    assert not store.root.exists()


def test_an_evaluation_of_an_endpoint_is_refused(made: Path, store: Store, tmp_path: Path):
    proof = evaluation(tmp_path / "evaluation", made, digest=None, endpoint="http://x")
    with pytest.raises(Refused, match="evaluated at an endpoint"):
        register(asked(made, proof), store)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (None, "is quantized and has no manifest.json"),
        (MANIFEST | {"recipe": "fp8"}, r"says the recipe fp8, and its evaluation w8a8"),
        (MANIFEST | {"quantization": "fp8"}, r"says fp8, and its evaluation measured w8a8"),
        (
            MANIFEST | {"base": {"name": "other", "digest": f"sha256:{'0' * 64}"}},
            r"was made from other .*evaluated against another checkpoint \(scribe",
        ),
        (
            {"recipe": "w8a8", "base": "other", "base_sha256": "0" * 64},
            r"was made from other .*evaluated against another checkpoint",
        ),
    ],
)
def test_a_manifest_has_to_fit(store: Store, tmp_path: Path, manifest: dict | None, message: str):
    made = artifact(tmp_path / "made", manifest=manifest)
    with pytest.raises(Refused, match=message):
        register(asked(made, evaluation(tmp_path / "evaluation", made)), store)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"recipe": 7}', "\xff"])
def test_a_manifest_that_is_none(store: Store, tmp_path: Path, text: str):
    made = artifact(tmp_path / "made")
    (made / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(WrongUsage, match=r"manifest\.json does not say how the artifact was made"):
        register(asked(made, evaluation(tmp_path / "evaluation", made)), store)


def test_an_unquantized_checkpoint_needs_no_manifest(store: Store, tmp_path: Path):
    made = artifact(tmp_path / "made", manifest=None)
    (made / "config.json").write_text("{}")
    proof = evaluation(tmp_path / "evaluation", made, recipe=None, quantization="none")
    assert register(asked(made, proof), store).record.base is None


def test_what_was_merged_may_have_another_reference_than_the_base(store: Store, tmp_path: Path):
    merged = {"adapter": {"name": "sql", "digest": BASE, "merged": True}}
    made = artifact(
        tmp_path / "made", manifest=MANIFEST | merged | {"base": {"name": "b", "digest": f"sha256:{'0' * 64}"}}
    )
    record = register(asked(made, evaluation(tmp_path / "evaluation", made)), store).record
    assert record.adapter is not None
    assert record.adapter.merged


def test_what_is_no_artifact_is_refused_first(store: Store, tmp_path: Path):
    with pytest.raises(CannotDigest, match="is no directory"):
        register(asked(tmp_path / "nothing", tmp_path), store)
    with pytest.raises(CannotRead, match="tollgate-worker evaluate"):
        register(asked(artifact(tmp_path / "made"), tmp_path / "nothing"), store)
    assert not store.root.exists()


def test_a_file_that_changes_while_it_is_copied_is_not_registered(made: Path, passed: Path, tmp_path: Path):
    def change(step: str) -> None:
        if step == "copied config.json":
            (made / "model.safetensors").write_text("changed")

    store = Store(tmp_path / "registry", change)
    with pytest.raises(NotStored, match="has been changed meanwhile"):
        register(asked(made, passed), store)
    assert store.digests() == []


def test_a_full_disk_is_told_and_nothing_is_registered(made: Path, passed: Path, tmp_path: Path):
    def full(step: str) -> None:
        if step == "copied config.json":
            raise OSError(28, "No space left on device")

    with pytest.raises(NotStored, match=r"the disk of .* is full; make room"):
        register(asked(made, passed), Store(tmp_path / "registry", full))
    assert Store(tmp_path / "registry").incoming() == []
    assert register(asked(made, passed), Store(tmp_path / "registry")).named


def test_a_damaged_artifact_is_repaired_by_registering_it_again(made: Path, passed: Path, store: Store):
    there = register(asked(made, passed), store).placed.path
    (there / "model.safetensors").chmod(0o644)
    (there / "model.safetensors").write_text("weighty")
    again = register(asked(made, passed), store)
    assert again.placed.repaired == ("model.safetensors",)
    assert contents(there) == contents(made)
    assert store.incoming() == []


def test_a_directory_with_something_else_is_not_taken_for_a_registry(made: Path, passed: Path, tmp_path: Path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").touch()
    with pytest.raises(WrongUsage, match="holds something else"):
        register(asked(made, passed), Store(tmp_path / "home"))


def test_what_is_registered_is_not_the_file_it_was_made_of(made: Path, passed: Path, store: Store):
    there = register(asked(made, passed), store).placed.path
    (made / "model.safetensors").write_text("changed")
    assert (there / "model.safetensors").read_text() == "weights"
    assert not os.stat(there / "model.safetensors").st_mode & 0o222


def test_only_one_changes_the_registry_at_a_time(made: Path, passed: Path, store: Store):
    with store.writing(), pytest.raises(Busy, match=rf"changed by process {os.getpid()} of .*--wait"):
        register(asked(made, passed, wait=0.1), Store(store.root))
    assert register(asked(made, passed), store).named


def _register(asked: Asked, root: Path, outcomes: multiprocessing.SimpleQueue) -> None:
    try:
        register(asked, Store(root))
        outcomes.put("done")
    except WorkerToolError as error:
        outcomes.put(type(error).__name__)


def test_two_at_once_both_finish_or_say_why(made: Path, passed: Path, store: Store, tmp_path: Path):
    """The same under one name, another under one of its own, and one that would take the first one's name."""
    directory = config(tmp_path / "config")
    other = artifact(tmp_path / "other", "better")
    proof = evaluation(tmp_path / "proof", other)
    everyone = [
        asked(made, passed, config=directory, wait=100),
        asked(made, passed, config=directory, wait=100),
        asked(other, proof, config=directory, wait=100, name=Name("version", "scribe", "int8b")),
    ]
    context = multiprocessing.get_context("fork")
    outcomes = context.SimpleQueue()
    processes = [context.Process(target=_register, args=(one, store.root, outcomes)) for one in everyone]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
    assert [outcomes.get() for _ in processes] == ["done"] * 3
    assert sorted(map(str, store.names())) == ["scribe@int8", "scribe@int8b"]
    assert len(store.history(NAME)) == 1
    assert audit(store, store.digests()) == []
    versions = gateway_config.load(directory, {}).models["scribe"].versions
    assert {name: version.digest for name, version in versions.items()} == {
        "fp8": None,
        "int8": digest_of_artifact(made),
        "int8b": digest_of_artifact(other),
    }


def test_a_configuration_with_errors_is_told_before_anything_is_done(
    made: Path, passed: Path, store: Store, tmp_path: Path
):
    directory = config(tmp_path / "config", "models: 7\n")
    with pytest.raises(CannotWrite, match=r"has errors already.*\n.*models\.yaml:1: error"):
        register(asked(made, passed, config=directory), store)
    with pytest.raises(WrongUsage, match="--no-config"):
        register(asked(made, passed, config=tmp_path / "nowhere"), store)
    assert not store.root.exists()


def test_a_configuration_that_would_not_be_valid_any_more_stays(made: Path, passed: Path, store: Store, tmp_path: Path):
    directory = config(tmp_path / "config")
    name = Name("version", "scribe", "not a name")
    with pytest.raises(CannotWrite, match=r"would not be valid any more:\n.*`not a name` cannot be a name"):
        register(asked(made, passed, config=directory, name=name), store)
    assert (directory / "models.yaml").read_text() == MODELS


def test_a_model_that_is_not_there_is_made_with_its_context(made: Path, passed: Path, store: Store, tmp_path: Path):
    directory = config(tmp_path / "config", "# nothing yet\n")
    with pytest.raises(WrongUsage, match="--context TOKENS"):
        register(asked(made, passed, config=directory), store)
    register(asked(made, passed, config=directory, context=2048), store)
    table = gateway_config.load(directory, {})
    assert table.models["scribe"].context == 2048
    assert (directory / "models.yaml").read_text().startswith("# nothing yet\nmodels:\n  scribe:\n    context: 2048\n")


def test_it_goes_where_the_model_is_written(made: Path, passed: Path, store: Store, tmp_path: Path):
    directory = config(tmp_path / "config", "models: {other: {context: 1, versions: {v: {}}}}\n")
    (directory / "team.yaml").write_text(MODELS)
    done = register(asked(made, passed, config=directory), store)
    assert done.written is not None
    assert done.written.file == directory / "team.yaml"


def test_an_adapter_is_registered_like_a_version(store: Store, tmp_path: Path):
    made = artifact(tmp_path / "sql", manifest=None)
    proof = evaluation(tmp_path / "evaluation", made, recipe=None, quantization="none")
    adapters = "    adapters:\n      sql: {path: old, tenants: [support]}\n"
    directory = config(tmp_path / "config", MODELS + adapters + "tenants: {support: {}}\n")
    done = register(asked(made, proof, config=directory, name=Name("adapter", "scribe", "sql")), store)
    adapter = gateway_config.load(directory, {}).models["scribe"].adapters["sql"]
    assert (adapter.path, adapter.digest, adapter.tenants) == (
        str(done.placed.path),
        digest_of_artifact(made),
        {"support"},
    )


def test_a_failed_announcement_leaves_the_name_unregistered_and_can_be_finished(
    made: Path, passed: Path, store: Store, tmp_path: Path
):
    directory = config(tmp_path / "config")

    def away(*_: object) -> str:
        raise WorkerToolError("away")

    with pytest.raises(WorkerToolError, match="away"):
        register(asked(made, passed, config=directory), store, away)
    assert list(store.names()) == []
    assert (directory / "models.yaml").read_text() == MODELS
    told: list[object] = []

    def heard(*what: object) -> str:
        told.append(what)
        return "told"

    done = register(asked(made, passed, config=directory, at="2026-11-22T00:00:00+00:00"), store, heard)
    assert (done.announced, done.placed.reused, done.record.at, len(told)) == ("told", True, AT, 1)
    assert len(store.records(done.record.digest)) == 1
