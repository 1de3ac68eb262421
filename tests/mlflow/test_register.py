"""What is registered is known to a real MLflow server, once, whatever cuts the telling off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.mlflow.server import running
from tests.unit.workers.registry.scene import MODELS, PASSED, UNJUDGED, artifact, config, evaluation
from workers.cli import main
from workers.registry.digest import digest_of_artifact
from workers.registry.mlflow import Mlflow, MlflowFailed
from workers.registry.record import canonical
from workers.registry.registration import Asked, register
from workers.registry.store import Name, Store

pytestmark = [pytest.mark.mlflow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("mlflow")) as url:
        yield url


def asked_of(server: str, path: str, **query: str) -> Any:
    answer = httpx2.get(f"{server}/api/2.0/{path}", params=query, timeout=60)
    answer.raise_for_status()
    return answer.json()


def versions(server: str, model: str) -> list[dict[str, Any]]:
    found = asked_of(server, "mlflow/model-versions/search", filter=f"name = '{model}'")
    return sorted(found.get("model_versions", []), key=lambda one: int(one["version"]))


def pairs(listed: list[dict[str, Any]]) -> dict[str, Any]:
    return {one["key"]: one["value"] for one in listed}


def test_a_version_is_there_with_its_lineage_and_only_once(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    made = artifact(tmp_path / "made")
    proof = evaluation(tmp_path / "proof", made, PASSED, UNJUDGED.model_copy(update={"optional": True}))
    (proof / "report.md").write_text("# A report\n")
    config(tmp_path / "router_config")
    command = ["register", "made", "--evaluation", "proof", "--model", "scribe", "--version", "int8", "--by", "ada"]
    assert main(command) == 0
    assert "scribe version 1 at http" in capsys.readouterr().out
    assert main(command) == 0
    [version] = versions(server, "scribe")
    digest = digest_of_artifact(made)
    tags = pairs(version["tags"])
    assert (tags["tollgate.name"], tags["tollgate.digest"]) == ("scribe@int8", digest)
    assert tags["tollgate.artifact"] == str(tmp_path / "var/registry/artifacts/sha256" / digest[7:])
    assert tags["tollgate.gate.divergence"] == "passed: 0.002"
    assert version["status"] == "READY"
    named = asked_of(server, "mlflow/registered-models/alias", name="scribe", alias="int8")["model_version"]
    assert named["version"] == "1"
    run = asked_of(server, "mlflow/runs/get", run_id=version["run_id"])["run"]
    assert run["info"]["status"] == "FINISHED"
    parameters, metrics = pairs(run["data"]["params"]), pairs(run["data"]["metrics"])
    assert parameters["base_revision"] == "c0ffee"
    assert parameters["calibration_sha256"] == "ca" * 32
    assert parameters["library.llmcompressor"] == "0.14.0"
    assert parameters["requires.compute_capability"] == "7.5"
    assert (metrics["quality"], metrics["perplexity.ratio.value"]) == (0.998, 1.002)
    store = Store(tmp_path / "var/registry")
    [(_, record)] = store.records(digest)
    folder = run["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/")
    for file, content in (
        ("lineage/record.json", canonical(record)),
        ("evaluation/evaluation.json", (proof / "evaluation.json").read_bytes()),
        ("evaluation/report.md", b"# A report\n"),
    ):
        answer = httpx2.get(f"{server}/api/2.0/mlflow-artifacts/artifacts/{folder}/{file}", timeout=60)
        assert answer.content == content, file


class CutOff(httpx2.BaseTransport):
    """Lets so many requests through; of the one after, the answer is lost."""

    def __init__(self, after: int) -> None:
        self._left = after
        self._transport = httpx2.HTTPTransport()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = self._transport.handle_request(request)
        if self._left == 0:
            answer.close()
            raise httpx2.ReadError("cut off", request=request)
        self._left -= 1
        return answer

    def close(self) -> None:
        self._transport.close()


def is_cut_off(asked: Asked, store: Store, server: Mlflow, proof: Path) -> bool:
    try:
        register(asked, store, lambda *told: server.announce(asked.name, *told, proof))
    except MlflowFailed:
        return True
    return False


def test_cut_off_at_any_request_nothing_is_half_registered_and_doing_it_again_finishes(server: str, tmp_path: Path):
    made = artifact(tmp_path / "made")
    proof = evaluation(tmp_path / "proof", made)
    for after in range(20):
        name = Name("version", f"cut-{after}", "v1")
        directory = config(tmp_path / f"config-{after}", MODELS.replace("scribe", name.model))
        asked = Asked(made, proof, name, "ada", "2026-11-21T12:00:00+00:00", "0.1.0", config=directory)
        before = (directory / "models.yaml").read_text()
        store = Store(tmp_path / f"registry-{after}")
        with Mlflow(server, {}, CutOff(after)) as cut:
            if not is_cut_off(asked, store, cut, proof):
                break
        assert list(store.names()) == []
        assert (directory / "models.yaml").read_text() == before
        with Mlflow(server, {}) as whole:
            assert not is_cut_off(asked, store, whole, proof)
        assert list(store.names()) == [name]
        [version] = versions(server, name.model)
        run = asked_of(server, "mlflow/runs/get", run_id=version["run_id"])["run"]
        assert run["info"]["status"] == "FINISHED"
    assert after >= 9, "there are more requests than that"


def test_another_evaluation_is_another_version_and_the_alias_moves(server: str, tmp_path: Path):
    made = artifact(tmp_path / "made")
    store = Store(tmp_path / "registry")
    name = Name("version", "org/again", "latest")
    for more in ((PASSED,), (PASSED, PASSED)):
        proof = evaluation(tmp_path / "proof", made, *more)
        asked = Asked(made, proof, name, "ada", "2026-11-21T12:00:00+00:00", "0.1.0")
        with Mlflow(server, {}) as told:
            assert not is_cut_off(asked, store, told, proof)
    assert [one["version"] for one in versions(server, "org--again")] == ["1", "2"]
    found = asked_of(server, "mlflow/registered-models/alias", name="org--again", alias="version-latest")
    assert found["model_version"]["version"] == "2"
