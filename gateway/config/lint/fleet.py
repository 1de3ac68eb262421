"""Checks of fleet.yaml."""

from __future__ import annotations

import os
from threading import Thread
from urllib.parse import unquote, urlsplit

from gateway.config.authority import AuthorityError, read_authority
from gateway.config.draft import Draft
from gateway.config.problems import Place, did_you_mean
from gateway.config.published import is_loopback
from gateway.config.references import References, split
from gateway.config.written.fleet import Launch, Tls, Worker

LOADS_NONE = ("tgi", "triton", "openai")  # the engines that take no adapters while they run
LAUNCHED = ("vllm", "trtllm")  # the engines `tollgate up` can start
LOOK_SECONDS = 1.0  # for a file of addresses


def lint_fleet(draft: Draft, references: References) -> None:
    source = draft.source
    names: dict[str, Place] = {}
    served_at: dict[tuple[str, str], str] = {}
    ports: dict[int, str] = {draft.settings.server.port: "the gateway itself"}
    for index, worker in enumerate(draft.workers):
        if worker is None:
            continue
        place = source.place("workers", index)
        if worker.name in names:
            source.findings.error(
                source.place("workers", index, "name"),
                f"a worker is already called `{worker.name}` at {names[worker.name]}",
                "rename one of them",
            )
        names.setdefault(worker.name, source.place("workers", index, "name"))
        _serves(draft, references, index, worker)
        _gpu(draft, index, worker)
        _adapters(draft, index, worker)
        if not draft.whole("workers", index):
            continue
        _cost(draft, index, worker)
        if worker.tls is not None:
            _tls(draft, index, worker, worker.tls)
        _address(draft, index, worker)
        if worker.launch is not None:
            _launch(draft, index, worker, worker.launch, ports)
        if worker.url is None and worker.launch is None:
            source.findings.error(
                place, f"`{worker.name}` has no address", "write `url: http://HOST:PORT`, or `launch: {port: 8102}`"
            )
        twin = (worker.url or "", worker.serves)
        if worker.url and twin in served_at:
            source.findings.warn(
                place,
                f"`{worker.name}` is the same engine and model as `{served_at[twin]}`, so its load counts twice",
                "delete one of them",
            )
        served_at.setdefault(twin, worker.name)
        if worker.api_key is not None and ("workers", index, "api_key") not in source.secret:
            source.findings.warn(
                source.place("workers", index, "api_key"),
                f"the key of `{worker.name}` stands here for everyone who can read this file",
                "write `${env:NAME}` and put the key into the environment",
            )


def _serves(draft: Draft, references: References, index: int, worker: Worker) -> None:
    source = draft.source
    place = source.place("workers", index, "serves")
    model, version, adapter = split(worker.serves)
    written = draft.models.get(model)
    if adapter:
        source.findings.error(
            place,
            f"`{worker.serves}` names an adapter",
            f"write the model@version that carries it, like `{model}@VERSION`, and `max_loras`",
        )
    elif model not in draft.models:
        source.findings.error(
            place, f"no model is called `{model}`", did_you_mean(model, draft.models, "write it under `models`")
        )
    elif written is not None and not version:
        versions = [f"`{model}@{name}`" for name in written.versions]
        source.findings.error(
            place, f"`{worker.serves}` does not say which version", f"write {' or '.join(versions[:8])}"
        )
    elif complaint := references.complaint(worker.serves, virtual=False):
        source.findings.error(place, complaint.wrong, complaint.remedy)
    elif written is not None and worker.launch is not None and written.versions[version].artifact is None:
        source.findings.error(
            place,
            f"`{worker.name}` is to be launched, but `{worker.serves}` has no weights",
            f"write `artifact:` at `models.{model}.versions.{version}`, or give the worker a `url` and no `launch`",
        )


def _gpu(draft: Draft, index: int, worker: Worker) -> None:
    source = draft.source
    if worker.gpu is not None and worker.gpu not in draft.gpus:
        source.findings.error(
            source.place("workers", index, "gpu"),
            f"no GPU is called `{worker.gpu}`",
            did_you_mean(worker.gpu, draft.gpus, f"write `gpus: {{{worker.gpu}: {{hourly_usd: 1.10}}}}`"),
        )


def _adapters(draft: Draft, index: int, worker: Worker) -> None:
    source = draft.source
    if worker.max_loras and worker.engine in LOADS_NONE:
        source.findings.warn(
            source.place("workers", index, "max_loras"),
            f"`engine: {worker.engine}` loads no adapters for the gateway: `{worker.name}` serves those it was started "
            "with, or none",
            "delete `max_loras`, and serve the adapters by `engine: vllm`, `sglang` or `trtllm`",
        )


def _cost(draft: Draft, index: int, worker: Worker) -> None:
    source = draft.source
    if worker.gpu is None and worker.price is None:
        source.findings.error(
            source.place("workers", index),
            f"nothing says what `{worker.name}` costs",
            "write `gpu:` with a name from `gpus`, or `price: {input_usd_per_m: …, output_usd_per_m: …}`",
        )


def _address(draft: Draft, index: int, worker: Worker) -> None:
    if worker.url is not None and worker.url.startswith("dns+https"):
        draft.source.findings.error(
            draft.source.place("workers", index, "url"),
            f"`{worker.name}`: a certificate names a host and not the addresses behind it, so none would be accepted",
            "write dns+http://, or list https:// addresses with names of their own in a file (file:///PATH.yaml)",
        )
    if worker.url is not None and worker.url.startswith("file://") and _is_missing(worker.url):
        draft.source.findings.warn(
            draft.source.place("workers", index, "url"),
            f"`{worker.name}` has no workers yet: there is no file {unquote(worker.url.removeprefix('file://'))}",
            "write the list of their URLs there, it is looked for all the time",
        )


def _is_missing(url: str) -> bool:
    """Also of a disk that does not answer it is not said that something is missing."""
    there: list[bool] = []
    path = unquote(url.removeprefix("file://"))
    looking = Thread(target=lambda: there.append(os.path.exists(path)), name="look for a list", daemon=True)
    looking.start()
    looking.join(LOOK_SECONDS)
    return there == [False]


def _tls(draft: Draft, index: int, worker: Worker, tls: Tls) -> None:
    source = draft.source
    if not (worker.url or "").startswith(("https://", "file://")):
        source.findings.error(
            source.place("workers", index, "tls"),
            f"`{worker.name}` is not talked to over TLS",
            "write its `url` with https://, or delete `tls`",
        )
    try:
        draft.authorities[tls.ca] = read_authority(source.directory / tls.ca)
    except AuthorityError as error:
        source.findings.error(source.place("workers", index, "tls", "ca"), f"`{tls.ca}` {error}", error.remedy)


def _launch(draft: Draft, index: int, worker: Worker, launch: Launch, ports: dict[int, str]) -> None:
    source = draft.source
    place = source.place("workers", index, "launch", "port")
    if launch.port in ports:
        free = next(port for port in range(8101, 65536) if port not in ports)
        source.findings.error(
            place, f"port {launch.port} already belongs to {ports[launch.port]}", f"write for example `port: {free}`"
        )
    ports.setdefault(launch.port, f"the worker `{worker.name}`")
    if worker.engine not in LAUNCHED:
        source.findings.error(
            source.place("workers", index, "launch"),
            f"`{worker.engine}` is not an engine `tollgate up` can start",
            "start it yourself and write its `url`, or use `engine: vllm`",
        )
    if worker.url is not None:
        parts = urlsplit(worker.url)
        if not is_loopback(parts.hostname or "") or parts.port != launch.port or parts.scheme != "http":
            source.findings.error(
                source.place("workers", index, "url"),
                f"`{worker.url}` is not where `launch` starts it",
                f"delete `url`, or write `url: http://127.0.0.1:{launch.port}`",
            )
