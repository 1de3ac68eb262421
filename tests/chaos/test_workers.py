"""What becomes of engine processes when they, or those who started them, come to a bad end.

The engines are stand-ins that leave stubborn, escaped children; everything around them is the real thing.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.launching import Launcher, Site, parent
from tests.eventually import eventually
from workers.registry.digest import digest_of_artifact

Launch = Callable[..., Launcher]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.expect_nothing_left()


@pytest.fixture
def launch(site: Site) -> Iterator[Launch]:
    running: list[Launcher] = []

    def start(*arguments: str, under: str | None = None) -> Launcher:
        running.append(site.launch(*arguments, under=under))
        return running[-1]

    yield start
    for launcher in running:
        launcher.close()


class TestStart:
    def test_ready_means_that_a_real_inference_was_answered(self, site: Site, launch: Launch) -> None:
        site.worker("w")
        launcher = launch("w")
        launcher.until("ready")
        assert '"model": "tiny@base"' in site.log("w")
        assert '"max_tokens": 1' in site.log("w")

    def test_workers_start_one_after_the_other_when_told_to(self, site: Site, launch: Launch) -> None:
        for name in ("a", "b", "c"):
            site.worker(name)
        launcher = launch("--all", "--parallel", "1")
        for name in ("a", "b", "c"):
            launcher.until("starting", name)
            launcher.until("ready", name)
        assert len(site.engines()) == 3

    def test_only_the_named_workers_start(self, site: Site, launch: Launch) -> None:
        site.worker("wanted")
        site.worker("other")
        launcher = launch("wanted")
        launcher.until("ready", "wanted")
        assert len(site.engines()) == 1

    def test_one_that_dies_at_the_start_shows_its_last_words_and_is_given_up(self, site: Site, launch: Launch) -> None:
        site.worker("w", FAKE_EXIT="3")
        launcher = launch("w")
        change = launcher.until("failed")
        assert change["reason"] == "exited with status 3"
        assert "RuntimeError: the fake engine has no weights" in change["last_words"]
        assert Path(site.root / change["log"]).is_file()
        assert launcher.status() == 1

    def test_one_that_fails_does_not_stop_the_others(self, site: Site, launch: Launch) -> None:
        site.worker("w", FAKE_EXIT="3")
        site.worker("good")
        launcher = launch("--all")
        launcher.until("ready", "good")
        launcher.until("failed")
        assert len(site.engines()) == 1
        launcher.send(signal.SIGTERM)
        launcher.until("stopped", "good")
        assert launcher.status() == 1

    def test_one_that_never_answers_is_ended_and_tried_again(self, site: Site, launch: Launch) -> None:
        site.worker("w", FAKE_SILENT="1", FAKE_OFFSPRING="1")
        launcher = launch("w", "--start-within", "1", "--grace", "0.2")
        change = launcher.until("backing_off")
        assert change["reason"].startswith("no answer within 1 s (")
        launcher.until("starting")
        eventually(lambda: len(site.engines()) == 1, "one engine runs again")

    def test_a_port_that_another_process_has_is_named_with_it(self, site: Site, launch: Launch) -> None:
        port = site.worker("w")
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", port))
            other.listen()
            launcher = launch("w")
            assert launcher.status() == 1
        assert f"port {port} is taken by pid {os.getpid()} (" in launcher.errors

    def test_a_missing_checkpoint_is_named_with_what_makes_it(self, site: Site, launch: Launch) -> None:
        site.worker("w")
        (site.root / "registry/tiny/base/config.json").unlink()
        launcher = launch("w")
        assert launcher.status() == 1
        assert "registry/tiny/base holds no checkpoint" in launcher.errors
        assert "tollgate-worker demo-models" in launcher.errors

    def test_another_artifact_than_was_registered_is_not_started(self, site: Site, launch: Launch) -> None:
        site.worker("w")
        site.version["digest"] = f"sha256:{'0' * 64}"
        launcher = launch("w")
        assert launcher.status() == 1
        assert "registry/tiny/base is not what was registered" in launcher.errors
        assert "tollgate-worker verify tiny@base" in launcher.errors

    def test_a_machine_that_lacks_what_a_version_needs_is_told(self, site: Site, launch: Launch) -> None:
        site.worker("w")
        site.version["requires"] = {"cpu_flags": ["magic"], "memory_gb": 1_000_000.0}
        launcher = launch("w")
        assert launcher.status() == 1
        assert "`requires` asks for the processor features magic" in launcher.errors
        assert "and for 1e+06 GB for its weights alone" in launcher.errors

    def test_a_missing_engine_environment_is_named_with_what_makes_it(self, site: Site, launch: Launch) -> None:
        site.worker("w")
        launcher = launch("w", under="")
        assert launcher.status() == 1
        assert "make engine-env" in launcher.errors

    @pytest.mark.parametrize("arguments", [(), ("nobody",), ("--all", "w"), ("--parallel", "0", "w")])
    def test_wrong_usage_is_told_apart(self, site: Site, launch: Launch, arguments: tuple[str, ...]) -> None:
        site.worker("w")
        assert launch(*arguments).status() == 2


class TestStop:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_a_signal_stops_everything_even_what_escaped(
        self, site: Site, launch: Launch, number: signal.Signals
    ) -> None:
        site.worker("w", FAKE_OFFSPRING="1")
        site.worker("x", FAKE_OFFSPRING="1")
        launcher = launch("--all")
        launcher.until("ready", "w")
        launcher.until("ready", "x")
        assert len(site.processes()) == 2 * (1 + 1 + 2)  # guard, engine, offspring
        launcher.send(number)
        assert launcher.status() == 0
        assert not site.processes()

    def test_an_engine_that_ignores_sigterm_is_killed_after_the_grace(self, site: Site, launch: Launch) -> None:
        site.worker("w", FAKE_STUBBORN="1", FAKE_OFFSPRING="1")
        launcher = launch("w", "--grace", "0.2")
        launcher.until("ready")
        launcher.send(signal.SIGTERM)
        assert launcher.status() == 0
        assert "still there after 0.2 s: killing" in site.log("w")

    def test_ctrl_c_in_a_terminal_goes_to_the_group_and_ends_in_order(self, site: Site, launch: Launch) -> None:
        site.worker("w", FAKE_OFFSPRING="1")
        launcher = launch("w")
        launcher.until("ready")
        os.killpg(launcher.process.pid, signal.SIGINT)
        launcher.until("stopping")
        assert launcher.status() == 0
        assert "ended with status 143" in site.log("w")  # by the guard's SIGTERM, not by the Ctrl-C

    def test_a_second_ctrl_c_changes_nothing(self, site: Site, launch: Launch) -> None:
        site.worker("w", FAKE_STUBBORN="1")
        launcher = launch("w", "--grace", "0.5")
        launcher.until("ready")
        launcher.send(signal.SIGINT)
        launcher.until("stopping")
        launcher.send(signal.SIGINT)
        assert launcher.status() == 0
        assert not site.processes()

    def test_a_stop_while_starting(self, site: Site, launch: Launch) -> None:
        site.worker("w", FAKE_SILENT="1")
        site.worker("queued")
        launcher = launch("--all", "--parallel", "1")
        launcher.until("starting")
        launcher.send(signal.SIGTERM)
        assert launcher.status() == 0

    def test_a_stop_while_backing_off(self, site: Site, launch: Launch) -> None:
        site.worker("w", FAKE_EXIT="3")
        launcher = launch("w")
        launcher.until("backing_off")
        launcher.send(signal.SIGTERM)
        assert launcher.status() == 0

    def test_the_end_of_standard_input_stops_it_when_asked(self, site: Site, launch: Launch) -> None:
        site.worker("w", FAKE_OFFSPRING="1")
        launcher = launch("w", "--until-stdin-closes")
        launcher.until("ready")
        assert launcher.process.stdin is not None
        launcher.process.stdin.close()
        assert launcher.status() == 0


class TestKilled:
    def test_kill_9_of_the_launcher_leaves_nothing(self, site: Site, launch: Launch) -> None:
        site.worker("w", FAKE_OFFSPRING="1", FAKE_STUBBORN="1")
        launcher = launch("w", "--grace", "0.2")
        launcher.until("ready")
        launcher.send(signal.SIGKILL)
        site.expect_nothing_left()

    def test_kill_9_of_the_launcher_while_a_worker_starts(self, site: Site, launch: Launch) -> None:
        site.worker("w", FAKE_SILENT="1", FAKE_OFFSPRING="1")
        launcher = launch("w")
        launcher.until("starting")
        launcher.send(signal.SIGKILL)
        site.expect_nothing_left()

    def test_kill_9_of_the_launchers_whole_process_group(self, site: Site, launch: Launch) -> None:
        site.worker("w", FAKE_OFFSPRING="1")
        launcher = launch("w")
        launcher.until("ready")
        os.killpg(launcher.process.pid, signal.SIGKILL)
        site.expect_nothing_left()

    def test_kill_9_of_the_launcher_and_of_the_guard(self, site: Site, launch: Launch) -> None:
        """Nobody of ours is left then; the kernel ends the engine itself."""
        site.worker("w")
        launcher = launch("w")
        launcher.until("ready")
        launcher.send(signal.SIGSTOP)
        [guard] = site.guards()
        os.kill(guard, signal.SIGKILL)
        launcher.send(signal.SIGKILL)
        site.expect_nothing_left()

    def test_a_launcher_started_right_after_waits_for_the_leftovers(self, site: Site, launch: Launch) -> None:
        site.worker("w", FAKE_STUBBORN="1")
        first = launch("w", "--grace", "1")
        first.until("ready")
        old = site.engines()
        first.send(signal.SIGKILL)
        second = launch("w", "--grace", "1")
        second.until("ready")
        assert len(site.engines()) == 1
        assert site.engines() != old

    def test_a_second_launcher_of_the_same_worker_is_refused(self, site: Site, launch: Launch) -> None:
        site.worker("w")
        first = launch("w")
        first.until("ready")
        second = launch("w")
        assert second.status() == 1
        assert f"another launcher runs it already (pid {first.process.pid})" in second.errors
        assert len(site.engines()) == 1

    def test_an_engine_that_is_killed_comes_back_alone(self, site: Site, launch: Launch) -> None:
        site.worker("w", FAKE_OFFSPRING="1")
        launcher = launch("w")
        launcher.until("ready")
        [engine] = site.engines()
        os.kill(engine, signal.SIGKILL)
        change = launcher.until("backing_off")
        assert change["reason"] == "killed by SIGKILL"
        launcher.until("ready")
        assert len(site.processes()) == 1 + 1 + 2  # the dead engine's offspring went with it
        assert engine not in site.engines()

    def test_what_was_changed_meanwhile_is_not_started_again(self, site: Site, launch: Launch) -> None:
        site.worker("w")
        checkpoint = site.root / "registry/tiny/base"
        site.version["digest"] = digest_of_artifact(checkpoint)
        launcher = launch("w")
        launcher.until("ready")
        (checkpoint / "config.json").write_text("[]")
        [engine] = site.engines()
        os.kill(engine, signal.SIGKILL)
        assert launcher.until("backing_off")["reason"] == "killed by SIGKILL"
        assert "is not what was registered" in launcher.until("backing_off")["reason"]
        assert site.engines() == []
        (checkpoint / "config.json").write_text("{}")
        launcher.until("ready")

    def test_a_port_that_is_taken_before_the_restart_is_waited_for(self, site: Site, launch: Launch) -> None:
        port = site.worker("w")
        launcher = launch("w")
        launcher.until("ready")
        [engine] = site.engines()
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            os.kill(engine, signal.SIGKILL)
            eventually(lambda: binds(other, port), "the port is free for a moment")
            other.listen()
            assert launcher.until("backing_off")["reason"] == "killed by SIGKILL"
            assert f"port {port} is taken by pid {os.getpid()} (" in launcher.until("backing_off")["reason"]
        launcher.until("ready")

    def test_a_guard_that_is_killed_takes_its_engine_along(self, site: Site, launch: Launch) -> None:
        site.worker("w", FAKE_OFFSPRING="1")
        site.worker("x", FAKE_OFFSPRING="1")
        launcher = launch("--all")
        launcher.until("ready", "w")
        launcher.until("ready", "x")
        before = site.processes()
        guard = site.guards()[0]
        victims = {pid for pid in before if pid == guard or parent_chain_has(pid, guard)}
        os.kill(guard, signal.SIGKILL)
        name = "w" if "/w.log" in before[guard] else "x"
        launcher.until("ready", name)
        after = site.processes()
        assert len(after) == len(before)
        assert not victims & after.keys()
        assert before.keys() - victims <= after.keys()  # the other worker was left alone


def binds(to: socket.socket, port: int) -> bool:
    try:
        to.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


def parent_chain_has(pid: int, ancestor: int) -> bool:
    at: int | None = pid
    while at:
        if at == ancestor:
            return True
        at = parent(at)
    return False
