"""Kill -9 at every step of every command that writes: the registry stays valid, and doing it again finishes it."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway import config as gateway_config
from tests.unit.workers.registry.scene import MODELS, NAME, artifact, asked, config, evaluation
from workers.registry.audit import audit, histories
from workers.registry.digest import digest_of_artifact
from workers.registry.registration import register
from workers.registry.store import Store
from workers.registry.sweep import sweep

Work = Callable[[Store], object]


class Scene:
    """Two artifacts, their evaluations, a registry and a configuration."""

    def __init__(self, root: Path) -> None:
        self.root = root / "registry"
        self.config = config(root / "config")
        self.made = artifact(root / "made")
        self.passed = evaluation(root / "passed", self.made)
        self.other = artifact(root / "other", "better")
        self.proof = evaluation(root / "proof", self.other)

    def first(self, store: Store) -> object:
        return register(asked(self.made, self.passed, config=self.config), store, lambda *_: "told")

    def moved(self, store: Store) -> object:
        return register(asked(self.other, self.proof, config=self.config, move=True), store)

    def swept(self, store: Store) -> object:
        return sweep(store, superseded=True, dry_run=False)

    def damage(self) -> None:
        path = Store(self.root).artifact(digest_of_artifact(self.made)) / "model.safetensors"
        path.chmod(0o644)
        path.write_text("weighty")

    def prepare(self, *done: str) -> None:
        for name in done:
            if name == "damage":
                self.damage()
            else:
                getattr(self, name)(Store(self.root))

    def holds(self) -> dict[str, object]:
        """What a reader finds."""
        store = Store(self.root)
        entries, _ = histories(store)
        return {
            "history": [(entry.name, entry.number, entry.digest) for entry in entries],
            "artifacts": store.digests(),
            "models": (self.config / "models.yaml").read_text(),
        }


def killed_at(work: Work, root: Path, boundary: int) -> bool:
    """Whether the work, done in a process of its own, was killed at this step; False where it ended before."""
    count = 0

    def step(_: str) -> None:
        nonlocal count
        if count == boundary:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    child = os.fork()
    if child == 0:
        try:
            work(Store(root, step))
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), "the work failed by itself"
    return status == signal.SIGKILL


@pytest.mark.parametrize(
    ("before", "command", "damaged"),
    [
        ((), "first", False),
        (("first",), "moved", False),
        (("first", "damage"), "first", True),
        (("first", "moved"), "swept", False),
    ],
)
def test_killed_at_any_step_it_is_valid_and_can_be_finished(
    tmp_path: Path, before: tuple[str, ...], command: str, damaged: bool
):
    whole = Scene(tmp_path / "whole")
    whole.prepare(*before, command)
    boundary = 0
    while True:
        scene = Scene(tmp_path / str(boundary))
        scene.prepare(*before)
        was = scene.holds()
        killed = killed_at(getattr(scene, command), scene.root, boundary)
        store = Store(scene.root)
        named = [entry.digest for entry in histories(store)[0]]
        if not damaged:
            assert audit(store, {*store.digests(), *store.recorded(), *named}) == [], boundary
        assert gateway_config.examine(scene.config, {}).table is not None
        text = (scene.config / "models.yaml").read_text()
        assert text == was["models"] or (named and f'digest: "{named[-1]}"' in text)
        if not killed:
            break
        getattr(scene, command)(store)
        assert store.incoming() == []
        assert audit(store, {*store.digests(), *named}) == []
        assert without_paths(scene) == without_paths(whole), boundary
        boundary += 1
    assert boundary >= 2, "no step was taken"


def without_paths(scene: Scene) -> dict[str, object]:
    found = scene.holds()
    return found | {"models": str(found["models"]).replace(str(scene.root), "registry")}


def test_what_was_cut_off_before_its_name_is_not_listed(tmp_path: Path):
    scene = Scene(tmp_path)
    steps: list[str] = []
    register(asked(scene.made, scene.passed), Store(tmp_path / "counted", steps.append))
    before_name = steps.index("before 000001.json has its name")
    assert killed_at(scene.first, scene.root, before_name)
    store = Store(scene.root)
    assert (list(store.names()), len(store.digests())) == ([], 1)
    assert (scene.config / "models.yaml").read_text() == MODELS
    assert store.history(NAME) == []
    [artifact, record] = sweep(store, superseded=False, dry_run=False)
    assert (artifact.why, record.why) == ("never registered", "never registered")
    assert (store.digests(), store.recorded()) == ([], [])
