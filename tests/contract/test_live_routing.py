"""Two gateways on one Redis before three real vLLM workers, one of which comes late, one is paused and one killed."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.launching import Launcher
from tests.contract.conftest import KEY, PATIENCE, READY_SECONDS, ROOT, digest
from tests.eventually import eventually
from tests.gateway_process import GatewayProcess
from tests.ports import reserved_port
from tests.redis.conftest import RedisServer
from workers.supervisor.guard import descendants

pytestmark = [pytest.mark.engine, pytest.mark.redis, pytest.mark.timeout(900)]

ENGINE_PYTHON = os.environ.get("TOLLGATE_ENGINE_PYTHON", str(ROOT / ".venvs/engine/bin/python"))
NAMES = ("w0", "w1", "w2")
PATH = "/v1/completions"
LONG = "def f(x):\n    return x\n" * 120  # several blocks of the router and of the engine
LONG_TOKENS = 6 * 128  # of it, in whole blocks of the engine
ASKERS = 6


class Pool:
    """Three engines, each under a supervisor of its own, and two gateways."""

    def __init__(self, root: Path, state: str) -> None:
        self.ports = {name: reserved_port() for name in NAMES}
        self.written = self._configuration(root, state)
        (root / "config").mkdir()
        (root / "config" / "all.yaml").write_text(json.dumps(self.written))
        self._root = root
        self.launchers: dict[str, Launcher] = {}
        self.gateways = [GatewayProcess(root / name, self.written) for name in ("a", "b")]

    def launch(self, name: str) -> None:
        arguments = [name, "--config", str(self._root / "config"), "--start-within", str(READY_SECONDS)]
        self.launchers[name] = Launcher(self._root, arguments, ENGINE_PYTHON)

    def until_ready(self, name: str) -> None:
        self.launchers[name].until("ready", name, within=2 * READY_SECONDS)

    def signal(self, name: str, number: signal.Signals) -> None:
        """To all processes of the engine, not to who looks after it."""
        for pid in descendants(self.launchers[name].process.pid):
            if b"guard.py" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, number)

    def hits(self, name: str) -> float:
        """Tokens of prompts that the engine's prefix cache has served, by its own count."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[name]}/metrics", timeout=PATIENCE) as answer:
            page = answer.read().decode()
        return sum(float(value) for value in re.findall(r"^vllm:prefix_cache_hits_total\{[^}]*\} (\S+)$", page, re.M))

    def worker(self, gateway: GatewayProcess, name: str) -> dict[str, Any]:
        return next(one for one in gateway.admin("workers")["workers"] if one["name"] == name)

    def _configuration(self, root: Path, state: str) -> dict[str, Any]:
        def worker(name: str) -> dict[str, Any]:
            launch = {
                "port": self.ports[name],
                "args": ["--max-num-seqs", "16"],
                "env": {"VLLM_CPU_OMP_THREADS_BIND": "nobind"},
            }
            return {"name": name, "engine": "vllm", "serves": "mini@bf16", "gpu": "cpu", "launch": launch}

        artifact = str(ROOT / "var/models/scribe-mini")
        return {
            "state": state,
            "ledger": f"sqlite:///{root / 'ledger.db'}",
            "admin": {"keys": [{"id": "test", "sha256": digest("sk-test-admin")}]},
            "gpus": {"cpu": {"hourly_usd": 0.09}},
            "models": {"mini": {"context": 2048, "versions": {"bf16": {"artifact": artifact, "quantization": "none"}}}},
            "workers": [worker(name) for name in NAMES],
            "tenants": {"contract": {"keys": [{"id": "k", "sha256": digest(KEY)}]}},
        }


def ask(gateway: GatewayProcess, prompt: str, tokens: int = 4) -> tuple[int, str]:
    """The status, and the worker that answered."""
    with gateway.client(KEY) as client:
        body = {"model": "mini", "prompt": prompt, "max_tokens": tokens}
        answer = client.post(PATH, json=body, timeout=PATIENCE)
    return answer.status_code, answer.headers.get("x-tollgate-worker", "")


class Askers:
    """At work until the block ends, half of them at each gateway."""

    def __init__(self, gateways: list[GatewayProcess]) -> None:
        self.statuses: Counter[int] = Counter()
        self.workers: Counter[str] = Counter()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, args=(gateways[number % len(gateways)], number))
            for number in range(ASKERS)
        ]

    def __enter__(self) -> Askers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _work(self, gateway: GatewayProcess, number: int) -> None:
        while not self._over.is_set():
            status, worker = ask(gateway, f"import asker_{number}\n", tokens=8)
            self.statuses[status] += 1
            self.workers[worker] += 1

    def wait_for(self, count: int) -> None:
        goal = self.statuses.total() + count
        eventually(lambda: self.statuses.total() >= goal, f"{count} more answers", within=PATIENCE)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    root = tmp_path_factory.mktemp("pool")
    redis = RedisServer(root / "redis")
    redis.start()
    with ExitStack() as stack:
        stack.callback(redis.stop)
        pool = Pool(root, redis.url)
        for name in NAMES[:2]:
            pool.launch(name)
            stack.callback(pool.launchers[name].close)
        for name in NAMES[:2]:
            pool.until_ready(name)
        for gateway in pool.gateways:
            stack.enter_context(gateway)
            gateway.wait_up(*NAMES[:2])
        yield pool
        if "w2" in pool.launchers:
            pool.launchers["w2"].close()


def test_long_prompts_land_where_their_caches_are_whichever_gateway_is_asked(pool: Pool) -> None:
    """With two workers chance alone would read about every third turn anew."""
    one, other = pool.gateways
    prompts = [f"# {number}\n{LONG}" for number in range(8)]
    with ThreadPoolExecutor(len(prompts)) as threads:
        first = list(threads.map(lambda prompt: ask(one, prompt), prompts))
    assert {worker for _, worker in first} == set(NAMES[:2]), "they came together and were spread"
    before = sum(pool.hits(name) for name in NAMES[:2])
    for turn, gateway in enumerate((other, one)):
        for prompt in prompts:
            assert ask(gateway, f"{prompt}# {turn}\n")[0] == 200
    found = sum(pool.hits(name) for name in NAMES[:2]) - before
    assert found > 0.8 * 2 * len(prompts) * LONG_TOKENS


def test_a_paused_worker_gets_nothing_until_it_is_heard_again(pool: Pool) -> None:
    with Askers(pool.gateways) as askers:
        askers.wait_for(6)
        pool.signal("w0", signal.SIGSTOP)
        try:
            for gateway in pool.gateways:
                eventually(lambda gateway=gateway: pool.worker(gateway, "w0")["silent"], "the silence is noticed")
            for gateway in pool.gateways:
                assert ask(gateway, "import os\n") == (200, "w1")
        finally:
            pool.signal("w0", signal.SIGCONT)
        for gateway in pool.gateways:
            eventually(lambda gateway=gateway: not pool.worker(gateway, "w0")["silent"], "it is heard again", PATIENCE)
    assert askers.statuses.keys() == {200}, "what it had begun it ended"


def test_a_new_worker_gets_its_part(pool: Pool) -> None:
    pool.launch("w2")
    pool.until_ready("w2")
    with Askers(pool.gateways) as askers:
        eventually(lambda: askers.workers["w2"] > 0, "the new worker answers", within=PATIENCE)
    assert askers.statuses.keys() == {200}


def test_a_killed_worker_costs_no_client_an_error(pool: Pool) -> None:
    with Askers(pool.gateways) as askers:
        askers.wait_for(6)
        pool.signal("w1", signal.SIGKILL)
        for gateway in pool.gateways:
            eventually(lambda gateway=gateway: not pool.worker(gateway, "w1")["up"], "the death is noticed")
        askers.wait_for(12)
    assert askers.statuses.keys() == {200}
