"""Tells an MLflow tracking server and its model registry what was registered, by MLflow's REST API (version 2.0).

A run holds the lineage as parameters, metrics, tags and files; a model version refers to the run and to where the
artifact lies, for the bytes stay where engines read them. Everything is looked for before it is made, so that what was
cut off is finished by doing it again; the model version, which is what people see, comes last.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import quote

import httpx2

from workers.errors import WorkerToolError, WrongUsage
from workers.registry.record import Record, canonical
from workers.registry.store import Name

EXPERIMENT = "tollgate"
CONNECT_WITHIN, ANSWER_WITHIN = 5.0, 30.0  # seconds, for each request
MOST_ANSWER = 4 * 2**20  # bytes
MOST_VALUE = 500  # characters of a parameter, the least that any MLflow takes
MOST_TAG = 5000
MOST_METRICS = 500
BESIDE = ("evaluation.json", "report.html", "report.md")  # of an evaluation's directory, if they are there
MOST_FILE = 64 * 2**20
PROXIED = "mlflow-artifacts:/"
TAKEN = "RESOURCE_ALREADY_EXISTS"


class MlflowFailed(WorkerToolError):
    """MLflow could not be told; the name is not registered, and doing it again finishes it."""


class Mlflow:
    """One server. `environ` has MLflow's own names for who is asking: MLFLOW_TRACKING_TOKEN, or _USERNAME with
    _PASSWORD."""

    def __init__(self, url: str, environ: Mapping[str, str], transport: httpx2.BaseTransport | None = None) -> None:
        if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", url):
            raise WrongUsage(f"{url!r} is not the address of an MLflow server; write http://HOST:5000, or --no-mlflow")
        self.url = url.rstrip("/")
        self._client = httpx2.Client(
            timeout=httpx2.Timeout(ANSWER_WITHIN, connect=CONNECT_WITHIN),
            headers=_authorization(environ),
            auth=_password(environ),
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def announce(self, name: Name, record: Record, sha256: str, artifact: Path, evaluation: Path) -> str:
        """The name and number of the model version, which says where the artifact lies. Raises MlflowFailed."""
        model = model_name(name)
        experiment = self._experiment()
        run, files_at, finished = self._run(experiment, record, sha256)
        if not finished:
            self._post("runs/log-batch", {"run_id": run, **batch(record, artifact)})
            self._upload(files_at, record, evaluation)
            self._post("runs/update", {"run_id": run, "status": "FINISHED", "end_time": _milliseconds(record.at)})
        self._make("registered-models/create", {"name": model, "tags": _pairs({"tollgate.model": name.model})})
        version = self._version(model, run, files_at, record, sha256, artifact)
        self._post("registered-models/alias", {"name": model, "alias": alias(name), "version": version})
        return f"{model} version {version} at {self.url}"

    def _experiment(self) -> str:
        self._make("experiments/create", {"name": EXPERIMENT})
        found = self._get("experiments/get-by-name", {"experiment_name": EXPERIMENT})
        return _text(found, "experiment", "experiment_id")

    def _run(self, experiment: str, record: Record, sha256: str) -> tuple[str, str, bool]:
        """Its id, where its files go, and whether all of it is there."""
        asked = {"experiment_ids": [experiment], "filter": f"tags.`tollgate.record` = '{sha256}'", "max_results": 1}
        runs = cast("list[dict[str, Any]]", self._post("runs/search", asked).get("runs") or [])
        if not runs:
            made = {
                "experiment_id": experiment,
                "run_name": record.name,
                "start_time": _milliseconds(record.at),
                "tags": _pairs({"tollgate.record": sha256, "mlflow.user": record.by}),
            }
            runs = [cast("dict[str, Any]", self._post("runs/create", made).get("run") or {})]
        info = {"info": runs[0].get("info")}
        return (
            _text(info, "info", "run_id"),
            _text(info, "info", "artifact_uri"),
            _text(info, "info", "status") == "FINISHED",
        )

    def _version(self, model: str, run: str, files_at: str, record: Record, sha256: str, artifact: Path) -> str:
        asked = {"filter": f"name = '{model}' and run_id = '{run}'", "max_results": "1"}
        found = cast("list[dict[str, Any]]", self._get("model-versions/search", asked).get("model_versions") or [])
        if found:
            return _text({"version": found[0]}, "version", "version")
        tags = _tags(record, artifact) | {"tollgate.record": sha256}
        made = {"name": model, "source": files_at, "run_id": run, "tags": _pairs(tags), "description": describe(record)}
        return _text(self._post("model-versions/create", made), "model_version", "version")

    def _upload(self, files_at: str, record: Record, evaluation: Path) -> None:
        """The record and the evaluation's documents, where the server takes files itself."""
        if not files_at.startswith(PROXIED):
            return
        folder = re.sub(r"^mlflow-artifacts:/+([^/]+:\d+/)?", "", files_at).strip("/")
        for file, content in _documents(record, evaluation):
            path = quote(f"{folder}/{file}")
            self._answer("PUT", f"mlflow-artifacts/artifacts/{path}", content=content)

    def _make(self, path: str, body: Mapping[str, Any]) -> None:
        """Makes what may be there already."""
        self._answer("POST", f"mlflow/{path}", json=body, accepted=(TAKEN,))

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._answer("POST", f"mlflow/{path}", json=body)

    def _get(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        return self._answer("GET", f"mlflow/{path}", params=query)

    def _answer(self, method: str, path: str, accepted: Sequence[str] = (), **request: Any) -> dict[str, Any]:
        url = f"{self.url}/api/2.0/{path}"
        try:
            with self._client.stream(method, url, **request) as response:
                content = b""
                for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) > MOST_ANSWER:
                        raise self._failed(f"answered {path} with more than {MOST_ANSWER // 2**20} MiB")
                status = response.status_code
        except httpx2.TimeoutException:
            raise self._failed(f"did not answer {path} within {ANSWER_WITHIN:g} s") from None
        except httpx2.TransportError as error:
            raise self._failed(f"cannot be reached ({error})") from None
        found = _object(content)
        if status == 200:
            return found
        if found.get("error_code") in accepted:
            return {}
        said = " ".join(str(found.get("message") or content[:200].decode(errors="replace")).split())[:300]
        raise self._failed(f"answered {path} with {status}: {said}")

    def _failed(self, what: str) -> MlflowFailed:
        return MlflowFailed(
            f"MLflow at {self.url} {what}; the name is not registered and models.yaml is as it was. Run this again when"
            " it answers, or leave it out with --no-mlflow"
        )


def model_name(name: Name) -> str:
    """MLflow's names have neither `/` nor `:`."""
    model = name.model.replace("/", "--")
    return model if name.kind == "version" else f"{model}--adapter--{name.name}"


def alias(name: Name) -> str:
    """What the version is called there: MLflow keeps `latest` and `v1` for itself, and has no dots."""
    if name.kind == "adapter":
        return "tollgate"
    plain = re.sub(r"[^A-Za-z0-9_-]", "-", name.name)
    return f"version-{plain}" if re.fullmatch(r"(?i)v\d+|latest", plain) else plain


def batch(record: Record, artifact: Path) -> dict[str, list[dict[str, Any]]]:
    """Everything of a run that is not a file."""
    at = _milliseconds(record.at)
    metrics = [{"key": key, "value": value, "timestamp": at, "step": step} for key, value, step in _metrics(record)]
    return {
        "params": _pairs(_parameters(record), MOST_VALUE),
        "metrics": metrics[:MOST_METRICS],
        "tags": _pairs(_tags(record, artifact)),
    }


def describe(record: Record) -> str:
    gates = "\n".join(
        f"- {gate.gate}: {_word(gate.passed)} ({gate.measured}, bound {gate.bound})" for gate in record.gates
    )
    override = f"\n\nOverridden by {record.override.by}: {record.override.reason}" if record.override else ""
    return f"{record.name}, {record.quantization}, {record.digest}\n\n{gates}{override}"[:MOST_TAG]


def _documents(record: Record, evaluation: Path) -> Iterator[tuple[str, bytes]]:
    yield "lineage/record.json", canonical(record)
    directory = evaluation if evaluation.is_dir() else evaluation.parent
    for file in BESIDE:
        path = directory / file
        if path.is_file() and path.stat().st_size <= MOST_FILE:
            yield f"evaluation/{file}", path.read_bytes()


def _parameters(record: Record) -> dict[str, str]:
    base, adapter = record.base, record.adapter
    found = {
        "quantization": record.quantization,
        "recipe": record.recipe,
        "base": base and base.name,
        "base_digest": base and base.digest,
        "base_revision": base and base.revision,
        "adapter": adapter and adapter.name,
        "adapter_digest": adapter and adapter.digest,
        "calibration_sha256": record.calibration_sha256,
        "device": record.device,
        "engine": record.engine,
        **{f"engine.{library}": version for library, version in record.engine_libraries.items()},
        **{f"library.{library}": version for library, version in record.libraries.items()},
        **{f"requires.{key}": str(value) for key, value in record.requires.model_dump(exclude_defaults=True).items()},
    }
    return {key: str(value) for key, value in found.items() if value}


def _tags(record: Record, artifact: Path) -> dict[str, str]:
    found = {
        "tollgate.name": record.name,
        "tollgate.digest": record.digest,
        "tollgate.artifact": str(artifact.absolute()),
        "tollgate.passed": str(record.passed).lower(),
        "tollgate.by": record.by,
        "tollgate.at": record.at,
        "tollgate.version": record.tollgate,
        **{f"tollgate.gate.{gate.gate}": f"{_word(gate.passed)}: {gate.measured}" for gate in record.gates},
    }
    if record.override:
        found |= {"tollgate.override.by": record.override.by, "tollgate.override.reason": record.override.reason}
    return found


def _metrics(record: Record) -> Iterator[tuple[str, float, int]]:
    """Every number of the evaluation, by its path there; figures by batch have it as their step."""
    for part in ("divergence", "perplexity", "candidate_running", "tasks", "long_context"):
        yield from _numbers(part, record.evaluation.get(part), 0)
    if record.quality is not None:
        yield "quality", record.quality, 0
    yield "size_bytes", float(record.size), 0


def _numbers(path: str, value: Any, step: int) -> Iterator[tuple[str, float, int]]:
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int | float):
        yield path, float(value), step
    elif isinstance(value, list):
        for item in cast("list[Any]", value):
            named = cast("dict[str, Any]", item) if isinstance(item, dict) else {}
            label = str(named.get("name") or named.get("context") or "")
            below = f"{path}.{re.sub(r'[^A-Za-z0-9_.-]', '_', label)}" if label else path
            yield from _numbers(below, item, int(named.get("batch", step)))
    elif isinstance(value, dict):
        for key, item in cast("dict[str, Any]", value).items():
            yield from _numbers(f"{path}.{key}", item, step)


def _word(passed: bool | None) -> str:
    return "not judged" if passed is None else "passed" if passed else "failed"


def _pairs(found: Mapping[str, str], longest: int = MOST_TAG) -> list[dict[str, str]]:
    return [{"key": key, "value": value[:longest]} for key, value in found.items()][:100]


def _milliseconds(at: str) -> int:
    return int(datetime.fromisoformat(at).timestamp() * 1000)


def _object(content: bytes) -> dict[str, Any]:
    try:
        found: Any = json.loads(content)
    except ValueError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _text(found: Mapping[str, Any], *path: str) -> str:
    value: Any = found
    for step in path:
        value = cast("dict[str, Any]", value).get(step) if isinstance(value, dict) else None
    if not isinstance(value, str | int):
        raise MlflowFailed(f"MLflow's answer has no {'.'.join(path)}; is it MLflow that answers at this address?")
    return str(value)


def _authorization(environ: Mapping[str, str]) -> dict[str, str]:
    token = environ.get("MLFLOW_TRACKING_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _password(environ: Mapping[str, str]) -> tuple[str, str] | None:
    user = environ.get("MLFLOW_TRACKING_USERNAME")
    if not user or environ.get("MLFLOW_TRACKING_TOKEN"):
        return None
    return user, environ.get("MLFLOW_TRACKING_PASSWORD", "")
