"""`processes: 2`: one port, two processes that stand in for each other, one parent that answers for both."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.eventually import eventually
from tests.gateway_process import KEY, GatewayProcess, configuration
from tests.live_worker import LiveWorker
from tests.ports import reserved_port
from tests.wire.patient import Load
from tests.wire.raw import RawClient, post

PATH = "/v1/chat/completions"
BODY = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}

Line = dict[str, Any]


@pytest.fixture(scope="module")
def worker() -> Iterator[LiveWorker]:
    with LiveWorker() as worker:
        yield worker


def written(worker: LiveWorker, **changes: Any) -> dict[str, Any]:
    server = {"host": "127.0.0.1", "port": 4000, "drain_seconds": 5, "processes": 2}
    return configuration({"w0": worker.url}, server=server, **changes)


@pytest.fixture
def gateway(worker: LiveWorker, tmp_path: Path) -> Iterator[GatewayProcess]:
    gateway = GatewayProcess(tmp_path, written(worker))
    gateway.start()
    gateway.wait_log(times(2, lambda line: line["event"] == "listening"))
    gateway.wait_log(times(2, lambda line: line["event"] == "worker up"))
    yield gateway
    if gateway.process.poll() is None:
        gateway.stop()


def times(count: int, is_it: Callable[[Line], bool]) -> Callable[[Line], bool]:
    """Whether a line is the `count`-th that `is_it`."""
    found = 0

    def is_last(line: Line) -> bool:
        nonlocal found
        found += is_it(line)
        return found == count

    return is_last


def children(gateway: GatewayProcess) -> list[int]:
    pid = gateway.process.pid
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed if not is_gone(int(child)) and not is_settler(int(child))]


def is_settler(pid: int) -> bool:
    return b"gateway.settler" in Path(f"/proc/{pid}/cmdline").read_bytes()


def state(pid: int) -> str:
    """Its letter in proc_pid_stat(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def is_gone(pid: int) -> bool:
    try:
        return state(pid) == "Z"
    except FileNotFoundError:
        return True


def freeze(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: state(pid) == "T" or None, "it stands still")


def client_ports(pid: int) -> set[int]:
    """The ports of the clients whose connection this process has."""
    held: set[str] = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            held.add(os.readlink(link))
    table = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {int(line[2].rpartition(":")[2], 16) for line in table if f"socket:[{line[9]}]" in held}


def pending_sigterm(pid: int) -> bool:
    """Whether a process that was stopped has yet to hear of SIGTERM."""
    status = Path(f"/proc/{pid}/status").read_text()
    pending = next(line for line in status.splitlines() if line.startswith("ShdPnd"))
    return bool(int(pending.split()[1], 16) & 1 << signal.SIGTERM - 1)


def whatever_comes(client: RawClient) -> bytes:
    try:
        return client.read_to_end()
    except ConnectionResetError:
        return b""


def ask(gateway: GatewayProcess, model: str = "tiny") -> httpx2.Response:
    """On a connection of its own, which the kernel gives to either process."""
    with gateway.client() as client:
        answer = client.post(PATH, json={**BODY, "model": model})
    assert answer.status_code == 200
    return answer


def test_two_serve_as_one(gateway: GatewayProcess, worker: LiveWorker) -> None:
    answers = [ask(gateway) for _ in range(30)]
    eventually(lambda: gateway.metric("tollgate_requests_total", status="200") == 30 or None, "either counts for both")
    eventually(lambda: len(gateway.all_rows()) == 30 or None, "both write one ledger")
    cost = sum(round(float(answer.headers["x-tollgate-cost-usd"]) * 1e9) for answer in answers)
    assert sum(row["cost_nanousd"] for row in gateway.all_rows()) == cost
    assert gateway.metric("tollgate_cost_usd_total") == pytest.approx(cost / 1e9)
    # What is read at the moment of asking is of the process that is asked, and says so.
    assert len({labels["process"] for labels, _ in gateway.samples("tollgate_worker_up")}) == 1

    gateway.write(written(worker, aliases={"gpt-9": "tiny"}))
    gateway.wait_log(times(2, lambda line: "is in effect, after" in line["event"]))
    for _ in range(10):
        ask(gateway, "gpt-9")
    eventually(lambda: gateway.metric("tollgate_requests_total") == 40 or None, "all are counted")

    victim, survivor = children(gateway)
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: is_gone(victim) or None, "one is killed")
    for _ in range(10):
        ask(gateway)
    gateway.wait_log(times(3, lambda line: line["event"] == "listening"))
    assert survivor in children(gateway)
    assert len(children(gateway)) == 2
    eventually(lambda: gateway.metric("tollgate_requests_total") >= 50 or None, "what the dead one counted is kept")

    assert gateway.stop() == 0
    assert f"gateway process {victim} ended with -9: starting another" in gateway.errors
    assert [line["event"] for line in gateway.log].count("stopped") == 2


def test_sighup_replaces_all_under_load_and_loses_nothing(gateway: GatewayProcess) -> None:
    old = children(gateway)
    with Load([gateway.port]) as load:
        eventually(lambda: load.answered > 50 or None, "the load is on")
        gateway.process.send_signal(signal.SIGHUP)
        gateway.wait_log(times(4, lambda line: line["event"] == "listening"), 60)
        gateway.wait_log(times(2, lambda line: line["event"] == "stopped"), 60)
        seen = load.answered
        eventually(lambda: load.answered > seen + 50 or None, "the load goes on")
        new = children(gateway)
    assert load.lost == []
    assert load.repeated == 0  # all were told in time that their connection ends
    assert len(new) == 2
    assert not set(new) & set(old)
    eventually(lambda: len(gateway.all_rows()) >= load.answered or None, "all are billed")
    assert gateway.stop() == 0
    rows = [row for row in gateway.all_rows()]
    assert len(rows) == load.answered
    assert {row["outcome"] for row in rows} == {"ok"}


def test_a_replacement_that_cannot_start_leaves_the_old_ones_alone(gateway: GatewayProcess, worker: LiveWorker) -> None:
    old = children(gateway)
    gateway.write_text("workers: [")
    gateway.process.send_signal(signal.SIGHUP)
    eventually(lambda: "the others stay as they are" in gateway.errors or None, "it is given up")
    ask(gateway)
    assert children(gateway) == old
    assert gateway.stop() == 0


def test_the_death_of_one_disturbs_only_its_own(gateway: GatewayProcess, worker: LiveWorker) -> None:
    """Streams of the other end with [DONE], and whoever comes meanwhile is served."""
    victim, survivor = children(gateway)
    streams: list[RawClient] = []
    body = json.dumps({**BODY, "stream": True, "max_tokens": 400, "standin": {"tokens": 400, "pace": 60}}).encode()

    def split() -> bool | None:
        """The kernel gives each new connection to either process: one more, until both have some."""
        stream = RawClient(gateway.port)
        streams.append(stream)
        stream.send(post(PATH, body, f"authorization: Bearer {KEY}"))
        stream.read_until(b"data: ")
        ports = client_ports(victim)
        return (len(streams) >= 12 and 0 < len([one for one in streams if one.port in ports]) < len(streams)) or None

    eventually(split, "both have streams")
    ports = client_ports(victim)
    of_victim = {stream for stream in streams if stream.port in ports}
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: is_gone(victim) or None, "one is killed")
    with Load([gateway.port], 4) as load:
        eventually(lambda: load.answered > 50 or None, "new requests are served meanwhile")
        worker.release()
        for stream in streams:
            if stream in of_victim:
                assert b"[DONE]" not in whatever_comes(stream)
            else:
                assert b"data: [DONE]" in stream.read_until(b"\r\n0\r\n\r\n")
    assert load.lost == []
    gateway.wait_log(times(3, lambda line: line["event"] == "listening"))
    for stream in streams:
        stream.leave()
    assert survivor in children(gateway)
    assert gateway.stop() == 0


def test_what_waits_for_a_process_that_dies_is_served_by_another(gateway: GatewayProcess) -> None:
    """The queue of connections belongs to the parent."""
    stuck = children(gateway)[0]
    freeze(stuck)
    clients = [RawClient(gateway.port) for _ in range(24)]
    for client in clients:
        client.send(post(PATH, json.dumps(BODY).encode(), f"authorization: Bearer {KEY}"))
    os.kill(stuck, signal.SIGKILL)
    for client in clients:
        with client:
            assert client.answer().status == 200
    assert gateway.stop() == 0


def test_the_end_of_all_answers_who_waits(gateway: GatewayProcess) -> None:
    pids = children(gateway)
    for pid in pids:
        freeze(pid)
    clients = [RawClient(gateway.port) for _ in range(24)]
    for client in clients:
        client.send(post(PATH, json.dumps(BODY).encode(), f"authorization: Bearer {KEY}"))
    gateway.process.send_signal(signal.SIGTERM)
    eventually(lambda: all(pending_sigterm(pid) for pid in pids) or None, "the parent has passed it on")
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    for client in clients:
        with client:
            assert client.answer().status == 200
    assert gateway.wait() == 0


def test_two_gateways_replaced_in_turn_lose_nothing(worker: LiveWorker, tmp_path: Path) -> None:
    """As Kubernetes does it: one ready beside the old ones, then an old one goes; clients know all of them."""
    config = configuration({"w0": worker.url})
    ports = [reserved_port() for _ in range(2)]
    gateways = [GatewayProcess(tmp_path / str(number), config) for number in range(2)]
    for gateway, port in zip(gateways, ports, strict=True):
        gateway.start(port)
        gateway.wait_ready()
    with Load(ports) as load:
        for gateway, port in zip(gateways, ports, strict=True):
            seen = load.answered
            eventually(lambda seen=seen: load.answered > seen + 50 or None, "the load is on")
            assert gateway.stop() == 0
            gateway.start(port)
            gateway.wait_ready()
    assert load.lost == []
    assert load.repeated == 0
    for gateway in gateways:
        assert gateway.stop() == 0
        assert gateway.faults == []


def test_when_the_parent_is_killed_no_child_stays(gateway: GatewayProcess) -> None:
    pids = children(gateway)
    assert len(pids) == 2
    gateway.process.kill()
    for pid in pids:
        eventually(lambda pid=pid: is_gone(pid) or None, f"child {pid} is gone")
    assert gateway.wait() == -signal.SIGKILL
    assert [line["event"] for line in gateway.log].count("stopped") == 2  # and they left in good order
