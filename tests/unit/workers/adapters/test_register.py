"""`adapter register`, as it is typed, with an evaluation as `evaluate --adapter` leaves it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.workers.adapters.files import adapter, base, loras
from tests.unit.workers.adapters.test_gates import evaluation, task
from workers.cli import main
from workers.evaluation.result import Evaluation
from workers.registry.digest import digest_of_artifact
from workers.registry.store import Name, Store

MODELS = """\
ledger: none
gpus: {cpu: {hourly_usd: 1}}
models:
  chat:   # what people talk to
    context: 64
    versions:
      bf16: {artifact: base}
workers:
  - {name: w, engine: vllm, serves: chat@bf16, gpu: cpu, max_loras: 2, launch: {port: 8101}}
tenants:
  analytics: {keys: [{id: k, sha256: %s}]}
""" % ("ab" * 32)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    on = base(tmp_path / "base")
    adapter(tmp_path / "made", on, r=8, weights=loras(8))
    (tmp_path / "router_config").mkdir()
    (tmp_path / "router_config/models.yaml").write_text(MODELS)
    evaluated(tmp_path)
    return tmp_path


def evaluated(here: Path, ratio: float = 1.02, gained: int = 30, **changes: Any) -> None:
    found = evaluation(ratio, task(gained, 2))
    candidate = found.candidate.model_copy(update={"digest": digest_of_artifact(here / "made"), "recipe": "lora"})
    reference = found.reference.model_copy(update={"digest": digest_of_artifact(here / "base")})
    found = found.model_copy(update={"candidate": candidate, "reference": reference, **changes})
    (here / "eval").mkdir(exist_ok=True)
    (here / "eval/evaluation.json").write_text(found.to_json())
    (here / "eval/report.md").write_text("# a report")


def register(*more: str, name: str = "sql") -> int:
    words = ["adapter", "register", "made", "--model", "chat", "--name", name, "--evaluation", "eval", "--task", "sql"]
    return main([*words, "--by", "ada", *more])


def configured(here: Path) -> dict[str, Any]:
    return yaml.safe_load((here / "router_config/models.yaml").read_text())["models"]["chat"].get("adapters", {})


def test_a_proven_adapter_is_registered_for_its_tenants(here: Path) -> None:
    assert register("--tenants", "analytics") == 0

    digest = digest_of_artifact(here / "made")
    where = f"var/registry/artifacts/sha256/{digest[7:]}"
    assert configured(here) == {"sql": {"path": where, "digest": digest, "tenants": ["analytics"]}}
    assert "# what people talk to" in (here / "router_config/models.yaml").read_text()
    ((_, record),) = Store(here / "var/registry").records(digest)
    assert (record.kind, record.name, record.passed) == ("adapter", "chat:sql", True)
    assert [gate.gate for gate in record.gates] == ["task sql", "improves sql", "general text"]
    assert record.base is not None
    assert record.base.digest == digest_of_artifact(here / "base")
    assert Evaluation.model_validate_json(json.dumps(record.evaluation)).passed
    assert main(["adapter", "check", where, "--model", "chat"]) == 0  # as engines will find it


def test_a_new_one_has_another_path(here: Path) -> None:
    assert register() == 0
    before = configured(here)["sql"]["path"]
    (here / "made/notes.md").write_text("second try")
    evaluated(here)

    assert register() == 2  # the name stands for other bytes
    assert configured(here)["sql"]["path"] == before
    assert register("--move") == 0
    assert configured(here)["sql"]["path"] != before
    assert len(Store(here / "var/registry").history(Name("adapter", "chat", "sql"))) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gained": 3}, "improves sql: 103 right, the base 102"),
        ({"ratio": 1.2}, "general text: × 1.2000, must be ≤ × 1.1"),
    ],
)
def test_what_is_not_proven_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], message: str
) -> None:
    evaluated(here, **changes)

    assert register() == 1

    assert message in capsys.readouterr().err
    assert configured(here) == {}
    assert not (here / "var/registry/artifacts").exists()


def test_how_much_may_be_unlearnt_is_ones_own_choice(here: Path) -> None:
    evaluated(here, ratio=1.2)

    assert register("--general", "1.3", name="a") == 0
    assert register("--general", "off", name="b") == 0


def test_what_engines_cannot_serve_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = here / "made/adapter_config.json"
    written.write_text(json.dumps(json.loads(written.read_text()) | {"use_dora": True}))
    evaluated(here)

    assert register() == 1

    assert "is not registered: features: adapter_config.json: vLLM does not take DoRA" in capsys.readouterr().err


def test_an_evaluation_against_another_base_proves_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads((here / "eval/evaluation.json").read_text())
    found["reference"]["digest"] = f"sha256:{'ab' * 32}"
    (here / "eval/evaluation.json").write_text(json.dumps(found))

    assert register() == 1

    assert "evaluated against another checkpoint" in capsys.readouterr().err


def test_a_changed_byte_is_another_adapter_than_was_evaluated(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "made/notes.md").write_text("added later")

    assert register() == 1

    assert "the evaluation is of another artifact" in capsys.readouterr().err


@pytest.mark.parametrize(
    "more",
    [
        ("--tenants", "nobody"),
        ("--tenants", ","),
        ("--task", "support"),
        ("--no-config",),
        ("--model", "code"),
        ("--name", "a b"),
        ("--evaluation", "nothing"),
        ("--general", "-1"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_written(here: Path, more: tuple[str, ...]) -> None:
    try:
        status = register(*more)
    except SystemExit as stopped:
        status = stopped.code

    assert status in (1, 2)
    assert configured(here) == {}
    assert not (here / "var/registry").exists()
