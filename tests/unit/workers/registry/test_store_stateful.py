"""Any sequence of registering, moving, damaging, killing and clearing leaves what a model of the registry says."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.unit.workers.registry.scene import artifact, asked, evaluation
from workers.registry.audit import audit, histories
from workers.registry.digest import digest_of_artifact
from workers.registry.registration import register
from workers.registry.store import Name, NameTaken, Store
from workers.registry.sweep import sweep

CONTENTS = ("one", "two", "six")  # of the same length


class Killed(BaseException):
    """Stands for kill -9: nothing that the code would do on its way out runs on the disk."""


class Registry(RuleBasedStateMachine):
    """`named` is what each name stands for, by content; `history` every step."""

    def __init__(self) -> None:
        super().__init__()
        self._scratch = tempfile.TemporaryDirectory()
        self.named: dict[str, str] = {}
        self.history: list[tuple[str, str]] = []
        self.damaged: set[str] = set()
        self.digests: dict[str, str] = {}

    @initialize()
    def make(self) -> None:
        self.base = Path(self._scratch.name)
        self.root = self.base / "registry"
        for content in CONTENTS:
            made = artifact(self.base / content, content)
            evaluation(self.base / f"{content}-proof", made)
            self.digests[content] = digest_of_artifact(made)

    def teardown(self) -> None:
        self._scratch.cleanup()

    def _register(self, name: str, content: str, move: bool, store: Store) -> None:
        artifact, proof = self.base / content, self.base / f"{content}-proof"
        register(asked(artifact, proof, name=Name("version", "m", name), move=move), store)

    @rule(name=st.sampled_from("ab"), content=st.sampled_from(CONTENTS), move=st.booleans())
    def register(self, name: str, content: str, move: bool) -> None:
        try:
            self._register(name, content, move, Store(self.root))
        except NameTaken:
            assert self.named[name] != content
            assert not move
            return
        assert move or self.named.get(name, content) == content
        self.damaged.discard(content)
        if self.named.get(name) != content:
            self.history.append((f"m@{name}", self.digests[content]))
        self.named[name] = content

    @rule(name=st.sampled_from("ab"), content=st.sampled_from(CONTENTS), at=st.integers(0, 15))
    def register_and_be_cut_off(self, name: str, content: str, at: int) -> None:
        steps = 0

        def step(_: str) -> None:
            nonlocal steps
            steps += 1
            if steps > at:
                raise Killed

        before = [(entry.name, entry.digest) for entry in histories(Store(self.root))[0]]
        try:
            self._register(name, content, True, Store(self.root, step))
        except Killed:
            pass
        after = [(entry.name, entry.digest) for entry in histories(Store(self.root))[0]]
        assert len(after) - len(before) in (0, 1)
        if after != before:
            self.history.append((f"m@{name}", self.digests[content]))
            self.named[name] = content
        there = Store(self.root).artifact(self.digests[content]) / "model.safetensors"
        if there.exists() and there.read_text() == content:
            self.damaged.discard(content)

    @rule(content=st.sampled_from(CONTENTS))
    def damage(self, content: str) -> None:
        path = Store(self.root).artifact(self.digests[content]) / "model.safetensors"
        if path.exists():
            path.chmod(0o644)
            path.write_text("bad")
            self.damaged.add(content)

    @rule(superseded=st.booleans())
    def sweep(self, superseded: bool) -> None:
        store = Store(self.root)
        sweep(store, superseded=superseded, dry_run=False)
        kept = set(self.named.values()) if superseded else self._ever()
        assert {content for content, digest in self.digests.items() if digest in store.digests()} <= kept
        self.damaged &= {content for content, digest in self.digests.items() if digest in store.digests()}

    def _ever(self) -> set[str]:
        return {content for content, digest in self.digests.items() if digest in {digest for _, digest in self.history}}

    @invariant()
    def names_stand_for_what_they_were_given(self) -> None:
        if not self.digests:
            return
        store = Store(self.root)
        assert {name.name: store.history(name)[-1].digest for name in store.names()} == {
            name: self.digests[content] for name, content in self.named.items()
        }
        assert sorted((entry.name, entry.digest) for entry in histories(store)[0]) == sorted(self.history)

    @invariant()
    def damage_and_nothing_else_is_found(self) -> None:
        if not self.digests:
            return
        store = Store(self.root)
        recorded = {content for content in CONTENTS if store.record_paths(self.digests[content])}
        found = audit(store, self.digests.values())
        assert {finding.path.parent.name for finding in found} == {
            self.digests[content][7:] for content in self.damaged & recorded
        }, found


Registry.TestCase.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
TestRegistry = Registry.TestCase
