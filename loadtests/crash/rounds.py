"""One process, one death, one recovery; and the same for each of the boundaries the process crosses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from mmap import mmap
from pathlib import Path
from typing import NamedTuple, Protocol

from gateway.ledger.store import Sink
from loadtests.crash import acts
from loadtests.crash.acts import Carrier, Stage, Survivor
from loadtests.crash.knife import Knife
from loadtests.crash.referee import judge, look
from loadtests.crash.story import Expected, expected, story

UNHURT, FAILED = 0, 1  # exit statuses of a child


class Ground(Protocol):
    """A ledger that can be had empty again and again."""

    @property
    def name(self) -> str: ...

    @property
    def acts(self) -> Sequence[str]:
        """The names of those that can die over it."""
        ...

    def fresh(self, directory: Path) -> str:
        """The URL of an empty one."""
        ...

    def open_sink(self, ledger: str) -> Sink: ...

    def open_carrier(self, ledger: str) -> Carrier: ...

    def forget(self) -> None:
        """Somebody died; and what is between here and the ledger may have died with him."""
        ...

    def recover(self, root: Path, ledger: str) -> None:
        """Everything that is left is brought into the ledger."""
        ...


class Act(NamedTuple):
    name: str
    run: Callable[[Stage], None]
    before: Callable[[Stage], None] | None = None  # what has happened, undisturbed
    settler_lives: bool = False  # through this death, with what it was told before


ACTS = (
    Act("gateway", acts.say),
    Act("settler", acts.settle, acts.say),
    Act("gateway and settler", acts.all_of_them),
    Act("settler to stream", acts.hand_over, acts.say),
    Act("consumer", acts.carry, acts.say, settler_lives=True),
    Act("gateway, settler and consumer", acts.all_of_them),
)


class Boundaries(NamedTuple):
    act: str
    ground: str
    crossed: list[str]


class Round(NamedTuple):
    act: str
    ground: str
    at: int
    boundary: str
    was_killed: bool  # else it did not come that far this time: threads take turns as they like
    told: int  # records the writer was told are safe
    problems: list[str]


class Rounds:
    """Of one act on one ground."""

    def __init__(self, act: Act, ground: Ground, requests: int, scratch: Path) -> None:
        self._act = act
        self._ground = ground
        self._requests = requests
        self._said = story(requests)
        self._survivor: Survivor | None = None
        self._scratch = scratch
        scratch.mkdir(exist_ok=True)
        self._told_file = scratch / f"told-{act.name}-{ground.name}".replace(" ", "-")
        self._told_file.write_bytes(bytes(4_096))
        with self._told_file.open("r+b") as file:
            self._told = mmap(file.fileno(), 4_096)  # what is said to be safe outlives who was told so

    def count(self) -> Boundaries:
        """Of an undisturbed run, which must hold like any other."""
        directory = self._directory("count")
        stage = self._stage(directory)
        status, crossed = self._watch(stage, directory / "crossed")
        if problems := self._problems(stage, status):
            raise AssertionError(f"{self._act.name} on {self._ground.name}, undisturbed: {problems}")
        shutil.rmtree(directory)
        return Boundaries(self._act.name, self._ground.name, crossed)

    def run(self, boundaries: Boundaries, chosen: Sequence[int]) -> Iterator[Round]:
        for at in chosen:
            directory = self._directory(str(at))
            stage = self._stage(directory)
            boundary = boundaries.crossed[at - 1]
            status = self._die(stage, at, boundaries.crossed)
            told = acts.told(self._told)
            problems = self._problems(stage, status)
            yield Round(self._act.name, self._ground.name, at, boundary, status == -signal.SIGKILL, told, problems)
            if not problems:
                shutil.rmtree(directory)

    def _watch(self, stage: Stage, file: Path) -> tuple[int, list[str]]:
        """The exit status of an undisturbed process, and what it crossed."""
        status = child(lambda: _counted(lambda: self._act.run(stage), file))
        return status, json.loads(file.read_text()) if file.exists() else []

    def _die(self, stage: Stage, at: int, crossed: Sequence[str]) -> int:
        """The exit status of a process that dies at the boundary number `at`."""
        return child(lambda: _cut(lambda: self._act.run(stage), at))

    def _directory(self, name: str) -> Path:
        directory = self._scratch / f"{self._act.name}-{self._ground.name}-{name}".replace(" ", "-")
        (directory / "journal").mkdir(parents=True)
        return directory

    def _stage(self, directory: Path) -> Stage:
        self._told[:4] = bytes(4)
        ledger = self._ground.fresh(directory)
        stage = Stage(
            directory / "journal", ledger, self._told, self._said, self._ground.open_sink, self._ground.open_carrier
        )
        if self._act.before is not None:
            before = self._act.before
            status = child(lambda: before(stage))
            assert status == UNHURT, status
        self._survivor = Survivor(stage) if self._act.settler_lives else None
        return stage

    def _problems(self, stage: Stage, status: int) -> list[str]:
        if status not in (UNHURT, -signal.SIGKILL):
            return [f"it failed by itself: {status}"]
        told = acts.told(self._told)
        if status == UNHURT and told != len(self._said):
            return [f"unhurt, and only {told} of {len(self._said)} records were taken"]
        try:
            self._ground.forget()
            if self._survivor is not None:
                self._survivor.finish(self._ground.open_carrier(stage.ledger))
            self._ground.recover(stage.root, stage.ledger)
            problems = judge(stage.ledger, stage.root, self._candidates(told))
            before = look(stage.ledger)
            self._ground.recover(stage.root, stage.ledger)
            if look(stage.ledger) != before:
                problems.append("a second recovery changed something")
        except Exception:  # whatever it is, it is to be told with its round
            problems = [traceback.format_exc()]
        return problems

    def _candidates(self, told: int) -> list[Expected]:
        """What was safe; and with it what was being said, which may or may not have been."""
        return [expected(self._said[:until]) for until in {told, min(told + 1, len(self._said))}]


def _cut(run: Callable[[], None], at: int) -> None:
    with Knife(at):
        run()


def _counted(run: Callable[[], None], crossed: Path) -> None:
    with Knife() as knife:
        run()
    crossed.write_text(json.dumps(knife.crossed))


def child(run: Callable[[], None]) -> int:
    """Runs it in a process of its own; its exit status, negative for the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        status = FAILED
        try:
            run()
            status = UNHURT
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
