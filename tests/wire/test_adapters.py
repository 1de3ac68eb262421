"""Adapters that the gateway places: brought where a request needs them, once, within the room of each worker, under
names that change with their files; broken ones are refused and nothing else suffers."""

from __future__ import annotations

import concurrent.futures
import json
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.adapter_files import write_adapter
from tests.eventually import eventually
from tests.gateway_process import KEY, GatewayProcess, configuration, tenant, worker_entry
from tests.live_worker import LiveWorker

OTHER_KEY = "sk-test-other"


def written(workers: list[LiveWorker], adapters: dict[str, Any], max_loras: int = 2, **more: Any) -> dict[str, Any]:
    entries = [worker_entry(f"w{at}", worker.url, max_loras=max_loras) for at, worker in enumerate(workers)]
    model = {"context": 32768, "versions": {"v1": {"quantization": "fp8", "quality": 0.99}}, "adapters": adapters}
    tenants = {"acme": tenant(KEY), "other": tenant(OTHER_KEY)}
    return configuration(entries, models={"tiny": model}, tenants=tenants, **more)


@contextmanager
def site(
    path: Path, adapters: dict[str, Any], count: int = 1, max_loras: int = 2, **options: Any
) -> Generator[tuple[GatewayProcess, list[LiveWorker]]]:
    with ExitStack() as stack:
        workers = [stack.enter_context(LiveWorker()) for _ in range(count)]
        for worker in workers:
            for name, value in options.items():
                setattr(worker.models, name, value)
        gateway = stack.enter_context(GatewayProcess(path, written(workers, adapters, max_loras)))
        gateway.wait_up()
        yield gateway, workers


def ask(client: httpx2.Client, adapter: str, **more: Any) -> httpx2.Response:
    body = {"model": f"tiny:{adapter}", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, **more}
    return client.post("/v1/chat/completions", json=body)


def placement(gateway: GatewayProcess, worker: str = "w0") -> dict[str, Any]:
    return next(one["adapter_placement"] for one in gateway.admin("workers")["workers"] if one["name"] == worker)


def loads(worker: LiveWorker) -> list[str]:
    return [name for what, name in worker.models.orders if what == "load"]


def test_requests_for_an_adapter_that_is_nowhere_wait_for_one_load(tmp_path: Path) -> None:
    adapters = {f"a{number}": {"path": f"/adapters/a{number}", "version": "1"} for number in range(3)}
    with site(tmp_path, adapters, load_delay=0.5) as (gateway, (worker,)), gateway.client() as client:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: ask(client, "a0"), range(8)))
        assert [answer.status_code for answer in answers] == [200] * 8, answers[0].text
        assert {answer.json()["model"] for answer in answers} == {"tiny:a0"}
        assert loads(worker) == ["tiny:a0@1"]
        sent = worker.body(answers[0].headers["x-request-id"])
        assert sent["model"] == "tiny:a0@1"


def test_the_one_not_used_for_longest_makes_room(tmp_path: Path) -> None:
    adapters = {f"a{number}": {"path": f"/adapters/a{number}", "version": "1"} for number in range(3)}
    with site(tmp_path, adapters) as (gateway, (worker,)), gateway.client() as client:
        for adapter in ("a0", "a1", "a0", "a2"):
            assert ask(client, adapter, temperature=1).status_code == 200
        assert list(worker.models.adapters) == ["tiny:a0@1", "tiny:a2@1"]
        shown = placement(gateway)
        assert {one["serves"]: one["in_use"] for one in shown["resident"]} == {"tiny:a0@1": 0, "tiny:a2@1": 0}


def test_an_adapter_in_use_is_not_unloaded(tmp_path: Path) -> None:
    adapters = {f"a{number}": {"path": f"/adapters/a{number}", "version": "1"} for number in range(2)}
    with site(tmp_path, adapters, max_loras=1) as (gateway, (worker,)), gateway.client() as client:
        worker.behave(header_delay=20.0)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            first = pool.submit(ask, client, "a0")
            worker.wait_for(active=1)
            worker.behave()
            second = pool.submit(ask, client, "a1")
            # the second waits for room, and is there as the one whose load has not begun
            with pytest.raises(concurrent.futures.TimeoutError):
                second.result(1.0)
            assert worker.models.orders[-1] == ("load", "tiny:a0@1")
            worker.release()
            assert first.result().status_code == second.result().status_code == 200
        assert [order for order in worker.models.orders][-2:] == [("unload", "tiny:a0@1"), ("load", "tiny:a1@1")]


def test_what_fits_is_loaded_before_anybody_asks(tmp_path: Path) -> None:
    adapters = {"a0": {"path": "/adapters/a0", "version": "1"}}
    with site(tmp_path, adapters) as (_, (worker,)):
        eventually(lambda: "tiny:a0@1" in worker.models.adapters or None, "it is loaded")


@pytest.mark.parametrize("fault", ["missing", "broken"])
def test_what_can_not_be_loaded_is_refused_and_nothing_else_is(tmp_path: Path, fault: str) -> None:
    adapters = {"good": {"path": "/adapters/good", "version": "1"}, "bad": {"path": f"/adapters/{fault}/x"}}
    with site(tmp_path, adapters, max_loras=1) as (gateway, (worker,)), gateway.client() as client:
        for _ in range(30):
            answer = ask(client, "bad")
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (503, "adapter_not_loaded")
            assert "could not be loaded" in error["message"]
            assert "/adapters" not in error["message"]  # where it lies is for the operator
        assert len([name for name in loads(worker) if "bad" in name]) == 1
        assert ask(client, "good").status_code == 200
        assert client.post("/v1/completions", json={"model": "tiny", "prompt": "hi"}).status_code == 200
        (shown,) = placement(gateway)["failed"].values()
        assert "failed" in shown["why"]
        assert shown["retry_seconds"] > 0
        state = gateway.admin("workers")["workers"][0]
        assert (state["breakers"], state["ejected_seconds"]) == ({}, 0)


def test_a_worker_that_takes_no_adapters_says_what_to_do(tmp_path: Path) -> None:
    adapters = {f"a{number}": {"path": f"/adapters/a{number}"} for number in range(3)}
    with site(tmp_path, adapters, takes_adapters=False) as (gateway, _), gateway.client() as client:
        assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in ask(client, "a0").json()["error"]["message"]


def test_other_files_are_another_version_under_another_name(tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "a0")
    with site(tmp_path, {"a0": {"path": str(path)}}) as (_, (worker,)):
        (old,) = eventually(lambda: list(worker.models.adapters) or None, "it is loaded")
        write_adapter(path, fill=b"\1")
        eventually(lambda: ((names := list(worker.models.adapters)) and old not in names) or None, "the new one is")
        (new,) = worker.models.adapters
        assert new.startswith("tiny:a0@")


def test_a_cached_answer_is_of_the_version_that_serves(tmp_path: Path) -> None:
    adapters = {"a0": {"path": "/adapters/a0", "version": "1"}}
    with site(tmp_path, adapters) as (gateway, (worker,)), gateway.client() as client:
        eventually(lambda: list(worker.models.adapters) or None, "it is loaded")
        said = [ask(client, "a0", temperature=0).headers["x-tollgate-cache"] for _ in range(2)]
        assert said == ["miss", "hit"]
        adapters["a0"]["version"] = "2"
        gateway.write({**gateway_written(gateway), "models": models(adapters)})
        eventually(lambda: list(worker.models.adapters) == ["tiny:a0@2"] or None, "the new version is loaded")
        assert ask(client, "a0", temperature=0).headers["x-tollgate-cache"] == "miss"


def test_adapters_come_and_go_with_the_configuration(tmp_path: Path) -> None:
    with site(tmp_path, {"a0": {"path": "/adapters/a0", "version": "1"}}) as (gateway, (worker,)):
        with gateway.client() as client:
            eventually(lambda: list(worker.models.adapters) == ["tiny:a0@1"] or None, "it is loaded")
            adapters = {"b": {"path": "/adapters/b", "version": "1", "tenants": ["acme"]}}
            gateway.write({**gateway_written(gateway), "models": models(adapters)})
            eventually(lambda: list(worker.models.adapters) == ["tiny:b@1"] or None, "the other is")
            assert ask(client, "b").status_code == 200
            assert ask(client, "a0").status_code == 404
            names = {card["id"] for card in client.get("/v1/models").json()["data"]}
            assert "tiny:b" in names
        with gateway.client(OTHER_KEY) as client:
            assert ask(client, "b").status_code == 403
            assert "tiny:b" not in {card["id"] for card in client.get("/v1/models").json()["data"]}


def test_an_adapter_the_engine_has_lost_is_loaded_again(tmp_path: Path) -> None:
    adapters = {"a0": {"path": "/adapters/a0", "version": "1"}}
    with site(tmp_path, adapters) as (gateway, (worker,)), gateway.client() as client:
        assert ask(client, "a0", temperature=1).status_code == 200
        worker.models.unload("tiny:a0@1")
        assert ask(client, "a0", temperature=1).status_code == 200
        assert loads(worker) == ["tiny:a0@1", "tiny:a0@1"]


def test_one_lost_under_many_requests_is_loaded_again_for_all_of_them(tmp_path: Path) -> None:
    adapters = {"a0": {"path": "/adapters/a0", "version": "1"}}
    with site(tmp_path, adapters, load_delay=0.3) as (gateway, (worker,)), gateway.client() as client:
        assert ask(client, "a0", temperature=1).status_code == 200
        for _ in range(3):
            worker.models.unload("tiny:a0@1")
            with concurrent.futures.ThreadPoolExecutor(12) as pool:
                answers = list(pool.map(lambda _: ask(client, "a0", temperature=1), range(12)))
            assert [answer.status_code for answer in answers] == [200] * 12, [answer.text for answer in answers]
        assert loads(worker) == ["tiny:a0@1"] * 4


def test_files_that_are_gone_leave_the_version_that_serves(tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "a0")
    with site(tmp_path, {"a0": {"path": str(path)}}) as (gateway, (worker,)), gateway.client() as client:
        (name,) = eventually(lambda: list(worker.models.adapters) or None, "it is loaded")
        for file in path.iterdir():
            file.unlink()
        gateway.wait_log(lambda line: "its last version stays" in str(line))
        assert ask(client, "a0", temperature=1).status_code == 200
        assert list(worker.models.orders) == [("load", name)]


def test_what_a_worker_has_from_before_is_found_again(tmp_path: Path) -> None:
    path = str(write_adapter(tmp_path / "a0"))
    with site(tmp_path, {"a0": {"path": path}, "b": {"path": path}}, max_loras=1) as (gateway, (worker,)):
        with gateway.client() as client:
            assert ask(client, "a0", temperature=1).status_code == 200
        gateway.stop()
        gateway.start()
        with gateway.client() as client:
            gateway.wait_up()
            assert ask(client, "a0", temperature=1).status_code == 200
        assert len(loads(worker)) == 1


def test_each_adapter_has_a_home_and_demand_gives_it_more(tmp_path: Path) -> None:
    adapters = {f"a{number}": {"path": f"/adapters/a{number}", "version": "1"} for number in range(9)}
    with site(tmp_path, adapters, count=3) as (gateway, workers), gateway.client() as client:
        for adapter in adapters:
            assert ask(client, adapter, temperature=1).status_code == 200
        homes = [name for worker in workers for name in loads(worker)]
        assert len(homes) == len(set(homes)) == len(adapters)
        for worker in workers:
            worker.behave(header_delay=30.0)
        with concurrent.futures.ThreadPoolExecutor(40) as pool:
            answers = [pool.submit(ask, client, "a0", temperature=1) for _ in range(40)]
            eventually(
                lambda: sum("tiny:a0@1" in worker.models.adapters for worker in workers) >= 2 or None,
                "it has two homes",
            )
            for worker in workers:
                worker.behave()
                worker.release()
            eventually(lambda: _release(workers, answers), "all are answered", within=20.0)
        assert {answer.result().status_code for answer in answers} == {200}


def _release(workers: list[LiveWorker], answers: list[concurrent.futures.Future[httpx2.Response]]) -> bool | None:
    for worker in workers:
        worker.release()
    return all(answer.done() for answer in answers) or None


def models(adapters: dict[str, Any]) -> dict[str, Any]:
    return {
        "tiny": {"context": 32768, "versions": {"v1": {"quantization": "fp8", "quality": 0.99}}, "adapters": adapters}
    }


def gateway_written(gateway: GatewayProcess) -> dict[str, Any]:
    return json.loads((gateway.config / "all.yaml").read_text())
