"""TLS to the workers: only to the one whose certificate a trusted authority gave to its name, probes included."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.eventually import eventually
from tests.gateway_process import GatewayProcess, configuration, worker_entry
from tests.live_worker import ScriptedWorker

CHAT = "/v1/chat/completions"
BODY = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "hi"}]})


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def worker(authority: Authority) -> Iterator[ScriptedWorker]:
    with ScriptedWorker(tls=authority.server()) as worker:
        yield worker


def why_down(gateway: GatewayProcess) -> str:
    def found() -> str | None:
        why: str = gateway.admin("workers")["workers"][0]["why_down"] or ""
        return None if why == "not probed yet" else why

    return eventually(found, "the worker is found wanting")


def trusted(worker: ScriptedWorker, tmp_path: Path, authority: Authority, ca: str) -> dict[str, object]:
    """A configuration whose worker is trusted by the authority's certificate, at `ca` beside it."""
    (tmp_path / "config").mkdir(parents=True)
    shutil.copy(authority.ca, tmp_path / "config" / ca)
    return configuration([worker_entry("w0", worker.url, tls={"ca": ca})])


def test_a_worker_of_a_private_authority_is_talked_to(
    worker: ScriptedWorker, authority: Authority, tmp_path: Path
) -> None:
    with GatewayProcess(tmp_path, trusted(worker, tmp_path, authority, "inner.pem")) as gateway:
        gateway.wait_up()
        with gateway.client() as client:
            assert client.post(CHAT, content=BODY).status_code == 200
    assert len(worker.asked) == 1


def test_one_that_only_a_stranger_vouches_for_is_not(worker: ScriptedWorker, tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, configuration({"w0": worker.url})) as gateway:
        assert "self-signed certificate" in why_down(gateway) or "issuer" in why_down(gateway)
        with gateway.client() as client:
            answer = client.post(CHAT, content=BODY)
        assert answer.status_code == 503
        assert ":" + worker.url.rpartition(":")[2] not in answer.text
    assert worker.asked == []


def test_a_private_authority_takes_the_place_of_the_others(
    worker: ScriptedWorker, tmp_path: Path, authority: Authority
) -> None:
    other = Authority(tmp_path / "other", "other")
    with GatewayProcess(tmp_path, trusted(worker, tmp_path, other, "inner.pem")) as gateway:
        assert "its TLS certificate is refused" in why_down(gateway)
    assert worker.asked == []


@pytest.mark.parametrize(
    ("names", "days", "why"),
    [
        ("DNS:elsewhere", 2, "its TLS certificate is refused: it has another name"),
        ("IP:127.0.0.1", -1, "its TLS certificate is refused: certificate has expired"),
    ],
)
def test_nor_is_one_of_another_name_or_time(
    names: str, days: int, why: str, authority: Authority, tmp_path: Path
) -> None:
    with ScriptedWorker(tls=authority.server(names, days)) as worker:
        with GatewayProcess(tmp_path, trusted(worker, tmp_path, authority, "inner.pem")) as gateway:
            assert why_down(gateway) == why
        assert worker.asked == []


def test_another_authority_takes_effect_with_the_configuration(
    worker: ScriptedWorker, authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other", "other")
    written = trusted(worker, tmp_path, other, "inner.pem")
    with GatewayProcess(tmp_path, written) as gateway:
        assert why_down(gateway)
        shutil.copy(authority.ca, tmp_path / "config" / "inner.pem")
        gateway.write({**written, "aliases": {"any": "tiny"}})
        gateway.wait_up()
        with gateway.client() as client:
            assert client.post(CHAT, content=BODY).status_code == 200
