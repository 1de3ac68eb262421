"""The directory over time, one poll after the other: what takes effect when, and what is told."""

import asyncio
import logging
from pathlib import Path

import pytest

from gateway.config import Watcher, load
from gateway.config.watch import PATIENCE

VALID = "server: {port: 4001}\n"
OTHER = "server: {port: 4001}\nlog: {prompts: hash}\n"
INVALID = "server: {prot: 4001}\n"
TENANTS = "tenants: {a: {}}\n"


class Scene:
    """A directory, its watcher, and what came out of it."""

    def __init__(self, directory):
        self.directory = directory
        self.write(VALID)
        (directory / "tenants.yaml").write_text(TENANTS)
        self.first = load(directory, {})
        self.applied = []
        self.now = 1000.0
        self.watcher = Watcher(directory, self.applied.append, self.first, environ={}, clock=lambda: self.now)
        self.polls(2)

    def write(self, text, name="gateway.yaml"):
        (self.directory / name).write_text(text)

    def polls(self, number):
        """What each poll would put into effect."""
        return [self.watcher.poll() for _ in range(number)]

    @property
    def state(self):
        return self.watcher.state


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


def test_what_it_started_with_is_in_effect(scene):
    assert scene.polls(3) == [None] * 3
    assert scene.state.revision == scene.first.revision
    assert (scene.state.reloads, scene.state.failures, scene.state.last_error) == (0, 0, ())
    assert scene.state.loaded_at == 1000.0


def test_a_change_before_the_first_poll_is_found(tmp_path):
    (tmp_path / "a.yaml").write_text(VALID)
    first = load(tmp_path, {})
    (tmp_path / "a.yaml").write_text(OTHER)
    watcher = Watcher(tmp_path, lambda table: None, first, environ={})
    tables = [watcher.poll() for _ in range(3)]
    assert [table and table.settings.log.prompts for table in tables] == [None, "hash", None]


def test_a_change_is_read_once_it_rests(scene):
    scene.now = 2000.0
    scene.write(OTHER)
    seen, rested, after = scene.polls(3)
    assert seen is None
    assert rested is not None
    assert rested.settings.log.prompts == "hash"
    assert after is None
    assert scene.state.revision == rested.revision != scene.first.revision
    assert (scene.state.reloads, scene.state.loaded_at) == (1, 2000.0)


def test_a_write_in_two_steps_is_seen_as_one(scene):
    """The first half is valid and would leave nobody able to call."""
    scene.write("", "tenants.yaml")
    assert scene.polls(1) == [None]
    scene.write(TENANTS + "# now whole\n", "tenants.yaml")
    seen, rested = scene.polls(2)
    assert seen is None
    assert rested is not None
    assert set(rested.tenants) == {"a"}
    assert scene.state.failures == 0


def test_a_write_in_two_steps_with_an_invalid_first_half_shows_no_error(scene):
    scene.write("server: {port: \n")
    assert scene.polls(2) == [None, None]  # it rested, was read and is suspect, and nothing is told yet
    scene.write(OTHER)
    assert scene.polls(1) == [None]
    [rested] = scene.polls(1)
    assert rested is not None
    assert (scene.state.failures, scene.state.last_error) == (0, ())


def test_a_directory_that_never_rests_is_read_all_the_same(scene):
    read = []
    for number in range(PATIENCE + 1):
        scene.write(OTHER + "#" * (number + 1))
        read += scene.polls(1)
    assert [table is None for table in read] == [True] * PATIENCE + [False]


def test_an_invalid_change_is_told_after_it_was_read_twice_and_the_old_stays(scene, caplog):
    scene.now = 2000.0
    scene.write(INVALID)
    with caplog.at_level(logging.ERROR, "tollgate.config"):
        assert scene.polls(2) == [None, None]
        assert scene.state.last_error == ()
        assert scene.polls(1) == [None]
    [problem] = [problem for problem in scene.state.last_error if problem.severity == "error"]
    assert problem.line == 1
    assert "did you mean `port`?" in problem.message
    assert (scene.state.failures, scene.state.last_error_at) == (1, 2000.0)
    assert scene.state.revision == scene.first.revision
    assert scene.state.loaded_at == 1000.0
    assert f"{scene.first.revision} stays in effect" in caplog.text
    assert "did you mean `port`?" in caplog.text


def test_an_error_is_told_once(scene, caplog):
    scene.write(INVALID)
    scene.polls(3)
    caplog.clear()
    assert scene.polls(5) == [None] * 5
    assert scene.state.failures == 1
    assert caplog.text == ""


def test_another_error_in_its_place_is_told_anew(scene):
    scene.write(INVALID)
    scene.polls(3)
    scene.write("\n\nserver: {hots: a}\n")
    scene.polls(3)
    assert scene.state.failures == 2
    assert any("`host`" in problem.message for problem in scene.state.last_error)


def test_the_same_error_in_another_text_is_no_new_one(scene):
    scene.write(INVALID)
    scene.polls(3)
    scene.write(INVALID + "# a note\n")
    scene.polls(3)
    assert scene.state.failures == 1


def test_a_mended_file_takes_effect_and_clears_the_error(scene):
    scene.write(INVALID)
    scene.polls(3)
    scene.write(OTHER)
    tables = scene.polls(2)
    assert tables[1] is not None
    assert (scene.state.last_error, scene.state.last_error_at) == ((), None)
    assert (scene.state.reloads, scene.state.failures) == (1, 1)


def test_going_back_clears_the_error_and_changes_nothing(scene):
    scene.write(INVALID)
    scene.polls(3)
    scene.write(VALID)
    assert scene.polls(3) == [None] * 3
    assert scene.state.last_error == ()
    assert (scene.state.reloads, scene.state.revision) == (0, scene.first.revision)


def test_an_emptied_directory_keeps_the_old(scene):
    for path in scene.directory.iterdir():
        path.unlink()
    assert scene.polls(4) == [None] * 4
    assert "no *.yaml file" in str(scene.state.last_error)
    scene.directory.rmdir()
    assert scene.polls(4) == [None] * 4


def test_what_needs_a_restart_is_named(scene):
    scene.write("server: {port: 5000}\nledger: sqlite:///other.db\ncache: {max_memory_mb: 1}\n")
    with (scene.directory / "gateway.yaml").open("a") as file:
        file.write("probe: {every: 1s}\ntelemetry: {otlp_endpoint: 'http://h:1'}\n")
    scene.polls(2)
    assert scene.state.needs_restart == ("server", "ledger", "cache.max_memory_mb", "telemetry")
    scene.write(OTHER)
    scene.polls(2)
    assert scene.state.needs_restart == ()


def test_the_readme_lists_what_needs_a_restart(scene):
    scene.write("server: {port: 5000}\nledger: sqlite:///other.db\ncache: {max_memory_mb: 1}\nstate: redis://h/0\n")
    with (scene.directory / "gateway.yaml").open("a") as file:
        file.write("telemetry: {otlp_endpoint: 'http://h:1'}\nmetering: {window: 10s}\n")
    scene.polls(2)
    listed = ", ".join(f"`{key}`" for key in scene.state.needs_restart)
    readme = (Path(__file__).parents[4] / "router_config" / "README.md").read_text()
    assert f"sends its spans ({listed}) takes effect at the next start" in " ".join(readme.split())


def test_warnings_of_what_is_in_effect_are_kept_and_told_once(tmp_path, caplog):
    scene = Scene(tmp_path)
    scene.polls(3)
    assert caplog.text.count("`a` has no key") == 1
    assert "`a` has no key" in str(scene.state.warnings)
    scene.write("tenants: {b: {}}\n", "tenants.yaml")
    scene.polls(2)
    assert "`b` has no key" in str(scene.state.warnings)


def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path):
    scene = Scene(tmp_path)

    class Environ(dict):
        """Asked for a secret in the middle of the reading."""

        def get(self, name, default=None):
            if not scene.written:
                scene.written = True
                scene.write(OTHER)
            return super().get(name, default)

    scene.written = False
    scene.watcher = Watcher(tmp_path, scene.applied.append, scene.first, environ=Environ(SECRET="redis://h"))
    scene.write("state: ${env:SECRET}\n")
    tables = scene.polls(4)
    assert [table and table.settings.log.prompts for table in tables] == [None, None, None, "hash"]


def test_the_loop_gets_the_table(tmp_path):
    """The whole of it, with its thread and its clock: a change arrives in the event loop by itself."""

    async def story():
        scene = Scene(tmp_path)
        arrived = asyncio.get_running_loop().create_future()
        watcher = Watcher(tmp_path, arrived.set_result, scene.first, environ={})
        running = asyncio.create_task(watcher.run())
        scene.write(OTHER)
        table = await asyncio.wait_for(arrived, 30)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return table

    assert asyncio.run(story()).settings.log.prompts == "hash"


def test_a_table_that_cannot_be_put_into_effect_does_not_end_the_watch(tmp_path, caplog):
    async def story():
        scene = Scene(tmp_path)
        arrived = asyncio.get_running_loop().create_future()

        def apply(table):
            if table.settings.log.prompts == "hash":
                scene.write(OTHER.replace("hash", "full") + "\n")
                raise RuntimeError("a bug elsewhere")
            arrived.set_result(table)

        watcher = Watcher(tmp_path, apply, scene.first, environ={})
        running = asyncio.create_task(watcher.run())
        scene.write(OTHER)
        table = await asyncio.wait_for(arrived, 30)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return table

    assert asyncio.run(story()).settings.log.prompts == "full"
    assert "a bug elsewhere" in caplog.text


def test_a_table_that_cannot_be_put_into_effect_does_not_count_as_in_effect(tmp_path):
    scene = Scene(tmp_path)

    def fail(table):
        raise RuntimeError("no room")

    scene.watcher = Watcher(tmp_path, fail, scene.first, environ={})
    scene.write(OTHER)
    [table] = [table for table in scene.polls(3) if table is not None]
    scene.watcher.apply(table)
    assert (scene.state.revision, scene.state.reloads, scene.state.failures) == (scene.first.revision, 0, 1)
    assert "no room" in scene.state.last_error[0].message
    scene.write(VALID)
    scene.polls(3)
    assert scene.state.last_error == ()
