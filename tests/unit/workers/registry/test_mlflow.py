"""What an MLflow server may do to a registration: refuse, fail, hang, be away, or be something else."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.unit.workers.registry.scene import FAILED, NAME, artifact, asked, evaluation
from workers.errors import WrongUsage
from workers.registry.mlflow import Mlflow, MlflowFailed, alias, batch, describe, model_name
from workers.registry.record import Override, Record
from workers.registry.registration import register
from workers.registry.store import Name, Store

Handler = Callable[[httpx2.Request], httpx2.Response]


@pytest.fixture
def record(tmp_path: Path) -> Record:
    made = artifact(tmp_path / "made")
    override = Override(by="eve", reason="a demo")
    proof = evaluation(tmp_path / "proof", made, FAILED)
    return register(asked(made, proof, override=override), Store(tmp_path / "registry")).record


def told(record: Record, tmp_path: Path, handler: Handler, **environ: str) -> str:
    with Mlflow("http://mlflow:5000/", environ, httpx2.MockTransport(handler)) as server:
        return server.announce(NAME, record, "aa" * 32, tmp_path / "artifact", tmp_path / "proof")


def server(request: httpx2.Request) -> httpx2.Response:
    """Answers as MLflow does where nothing has been registered."""
    answers: dict[str, Any] = {
        "experiments/create": {"experiment_id": "7"},
        "experiments/get-by-name": {"experiment": {"experiment_id": "7"}},
        "runs/search": {},
        "runs/create": {
            "run": {"info": {"run_id": "r1", "artifact_uri": "mlflow-artifacts:/7/r1/a", "status": "RUNNING"}}
        },
        "model-versions/search": {},
        "model-versions/create": {"model_version": {"version": "3"}},
    }
    path = request.url.path.removeprefix("/api/2.0/mlflow/")
    return httpx2.Response(200, json=answers.get(path, {}))


def test_files_stay_away_from_a_server_that_does_not_take_them(record: Record, tmp_path: Path):
    seen: list[str] = []

    def elsewhere(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.url.path)
        return httpx2.Response(200, content=server(request).content.replace(b"mlflow-artifacts:", b"s3://bucket"))

    assert told(record, tmp_path, elsewhere) == "scribe version 3 at http://mlflow:5000"
    assert not any("mlflow-artifacts" in path for path in seen)


def test_files_go_below_the_runs_own_folder(record: Record, tmp_path: Path):
    put: list[str] = []

    def listening(request: httpx2.Request) -> httpx2.Response:
        if request.method == "PUT":
            put.append(request.url.path)
        return server(request)

    told(record, tmp_path, listening)
    folder = "/api/2.0/mlflow-artifacts/artifacts/7/r1/a"
    assert put == [f"{folder}/lineage/record.json", f"{folder}/evaluation/evaluation.json"]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"MLFLOW_TRACKING_TOKEN": "t0k3n"}, "Bearer t0k3n"),
        (
            {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "pw"},
            "Basic " + base64.b64encode(b"ada:pw").decode(),
        ),
        ({}, None),
    ],
)
def test_who_is_asking(record: Record, tmp_path: Path, environ: dict[str, str], expected: str | None):
    said: list[str | None] = []

    def listening(request: httpx2.Request) -> httpx2.Response:
        said.append(request.headers.get("authorization"))
        return server(request)

    told(record, tmp_path, listening, **environ)
    assert set(said) == {expected}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (httpx2.Response(500, text="<html>oops"), "answered mlflow/experiments/create with 500: <html>oops"),
        (httpx2.Response(401, json={"error_code": "UNAUTHENTICATED", "message": "who?"}), "with 401: who\\?"),
        (httpx2.Response(200, text="hello"), "has no experiment.experiment_id; is it MLflow"),
        (httpx2.Response(200, json=[1]), "has no experiment.experiment_id; is it MLflow"),
        (httpx2.Response(200, content=b"x" * (5 * 2**20)), "with more than 4 MiB"),
        (httpx2.ConnectError("refused"), r"cannot be reached \(refused\)"),
        (httpx2.ReadTimeout("slow"), "did not answer mlflow/experiments/create within 30 s"),
    ],
)
def test_a_server_that_is_not_well_is_told_of(record: Record, tmp_path: Path, answer: Any, message: str):
    def handler(_: httpx2.Request) -> httpx2.Response:
        if isinstance(answer, Exception):
            raise answer
        return httpx2.Response(answer.status_code, content=answer.content)

    with pytest.raises(MlflowFailed, match=message):
        told(record, tmp_path, handler)


def test_it_is_told_before_the_name_is_registered(tmp_path: Path):
    made = artifact(tmp_path / "made")
    proof = evaluation(tmp_path / "proof", made)
    store = Store(tmp_path / "registry")

    def broken(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(503)

    with Mlflow("http://mlflow:5000", {}, httpx2.MockTransport(broken)) as away, pytest.raises(MlflowFailed):
        register(asked(made, proof), store, lambda *what: away.announce(NAME, *what, proof))
    assert (list(store.names()), len(store.digests())) == ([], 1)


@pytest.mark.parametrize("url", ["", "databricks", "mlflow:5000", "sqlite:///x", "http://", "http://a b"])
def test_what_is_no_address(url: str):
    with pytest.raises(WrongUsage, match="is not the address of an MLflow server"):
        Mlflow(url, {})


@pytest.mark.parametrize(
    ("name", "model", "called"),
    [
        (Name("version", "scribe", "int8"), "scribe", "int8"),
        (Name("version", "org/scribe", "v2"), "org--scribe", "version-v2"),
        (Name("version", "scribe", "latest"), "scribe", "version-latest"),
        (Name("version", "scribe", "fp8.1"), "scribe", "fp8-1"),
        (Name("adapter", "scribe", "sql"), "scribe--adapter--sql", "tollgate"),
    ],
)
def test_names_that_mlflow_takes(name: Name, model: str, called: str):
    assert (model_name(name), alias(name)) == (model, called)


def test_what_a_run_holds(record: Record, tmp_path: Path):
    found = record.model_copy(
        update={
            "evaluation": {
                "tasks": [{"name": "a b", "lost": 2, "examples": 9}],
                "candidate_running": {"speed": [{"batch": 4, "requests_per_second": 7.5}]},
                "perplexity": {"ratio": {"value": 1.0}, "tokens": True},
            }
        }
    )
    run = batch(found, tmp_path)
    metrics = {(one["key"], one["step"]): one["value"] for one in run["metrics"]}
    assert metrics["tasks.a_b.lost", 0] == 2
    assert metrics["candidate_running.speed.requests_per_second", 4] == 7.5
    assert metrics["perplexity.ratio.value", 0] == 1.0
    assert ("perplexity.tokens", 0) not in metrics
    tags = {one["key"]: one["value"] for one in run["tags"]}
    assert (tags["tollgate.override.by"], tags["tollgate.passed"]) == ("eve", "false")
    assert "Overridden by eve: a demo" in describe(found)
    assert json.dumps(run)
