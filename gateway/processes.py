"""Several gateway processes on one port: the parent of them all.

The parent makes one listening socket per process and keeps them open; the kernel spreads the connections between the
sockets, and each child accepts on its own. So what waits in a queue outlives the child that should have taken it: the
other children stand in for one that is gone until there is another, and of two that follow each other the old one
leaves when the new one accepts from the same queue.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway.child import LEAVING, SERVING, STAND_BACK, STAND_IN, Inheritance, Line
from gateway.stopping import SAME_WISH_SECONDS

logger = logging.getLogger("tollgate.processes")

LOOK_SECONDS = 0.1  # between two looks at the children
RESTART_SECONDS = 1.0  # between two starts in the same place, so that one that cannot start does not spin
REFUSED = 1  # a child's exit status when it will not start
REFUSED_WITHIN_SECONDS = 10.0  # of the parent's own start: later, a child that will not start must not end the others
SERVES_WITHIN_SECONDS = 60.0  # or it takes nobody's place
FORCE_AFTER_SECONDS = 15.0  # past the children's own drain time: longer than an orderly end can take at worst


@dataclass(slots=True, eq=False)
class Child:
    process: subprocess.Popen[bytes]
    line: Line
    slot: int
    started: float
    serves: bool = False
    stands_in: set[int] = field(default_factory=set[int])
    gone_by: float = 0.0  # once it was asked to leave

    @property
    def pid(self) -> int:
        return self.process.pid


class Parent:
    """Keeps one child of `command` per listener. `run` once."""

    def __init__(
        self,
        command: Sequence[str],
        listeners: Sequence[socket.socket],
        drain_seconds: float,
        also: Callable[[], None] = lambda: None,
    ) -> None:
        """`also` is looked after with the children, as often."""
        self._also = also
        self._command = [sys.executable, *command]
        self._listeners = listeners
        self._drain_seconds = drain_seconds
        self._began = time.monotonic()
        self._places: list[Child | None] = [None] * len(listeners)
        self._last_start = [0.0] * len(listeners)
        self._orphaned: set[int] = set()  # places whose child is gone, until another one serves
        self._successor: Child | None = None
        self._to_replace: list[int] = []
        self._leaving: list[Child] = []
        self._stop_asked = 0.0
        self._stop_hurried = False
        self._replace_asked = False
        self._refused = False
        self._worst = 0

    def run(self) -> int:
        """Until SIGTERM or SIGINT, and a second one does not wait for the drain; SIGHUP replaces the children one after
        another. 0 when all of them left in good order, 1 when one would not start or had to be killed."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        signal.signal(signal.SIGHUP, self._replace)
        while not self._stop_asked and not self._refused:
            self._look()
        self._end_all()
        return 1 if self._worst or self._refused else 0

    def _stop(self, *_: object) -> None:
        now = time.monotonic()
        if not self._stop_asked:
            self._stop_asked = now
        elif now - self._stop_asked >= SAME_WISH_SECONDS:
            self._stop_hurried = True

    def _replace(self, *_: object) -> None:
        self._replace_asked = True

    # While it runs

    def _look(self) -> None:
        now = time.monotonic()
        for slot in range(len(self._places)):
            self._look_after(slot, now)
        self._succeed(now)
        self._leaving = [child for child in self._leaving if not self._is_gone(child, now)]
        self._have_stood_in()
        self._also()
        self._listen()

    def _look_after(self, slot: int, now: float) -> None:
        child = self._places[slot]
        if child is not None and child.process.poll() is not None:
            status = child.process.returncode
            if status == REFUSED and now - self._began < REFUSED_WITHIN_SECONDS:
                logger.error("gateway process %d would not start: the log says why", child.pid)
                self._refused = True
            else:
                logger.error("gateway process %d ended with %s: starting another", child.pid, status)
            child.line.close()
            self._places[slot] = child = None
            self._orphaned.add(slot)
        if child is None and not self._refused:
            if self._successor is not None and self._successor.slot == slot:
                self._places[slot], self._successor = self._successor, None
            elif now - self._last_start[slot] >= RESTART_SECONDS:
                self._places[slot] = self._start(slot, now)

    def _succeed(self, now: float) -> None:
        """One step of the replacement: a new child for the first place that needs one, then its predecessor leaves."""
        if self._replace_asked and self._successor is None:
            self._replace_asked = False
            self._to_replace = list(range(len(self._places)))
        new = self._successor
        if new is None:
            if self._to_replace:
                slot = self._to_replace.pop(0)
                self._successor = self._start(slot, now)
        elif new.serves:
            old, self._places[new.slot], self._successor = self._places[new.slot], new, None
            assert old is not None  # a place that falls empty is the successor's at once
            logger.warning("gateway process %d takes the place of %d", new.pid, old.pid)
            self._ask_to_leave(old, now)
        elif new.process.poll() is not None or now - new.started > SERVES_WITHIN_SECONDS:
            logger.error("gateway process %d does not serve: the others stay as they are; the log says why", new.pid)
            self._successor = None
            self._to_replace.clear()
            self._ask_to_leave(new, now)

    def _have_stood_in(self) -> None:
        self._orphaned -= {child.slot for child in self._places if child is not None and child.serves}
        for child in self._places:
            if child is None or not child.serves:
                continue
            for slot in self._orphaned - child.stands_in - {child.slot}:
                child.line.say(STAND_IN, slot)
            for slot in child.stands_in - self._orphaned:
                child.line.say(STAND_BACK, slot)
            child.stands_in = self._orphaned - {child.slot}

    def _listen(self) -> None:
        """Waits a moment for what the children say."""
        lines = {child.line.fileno(): child for child in (*self._places, self._successor) if child is not None}
        poll = select.poll()
        for descriptor in lines:
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(LOOK_SECONDS * 1000):
            child = lines[descriptor]
            heard = child.line.heard()
            for verb, _ in heard:
                if verb == SERVING:
                    child.serves = True
                elif verb == LEAVING and child is self._places[child.slot]:
                    logger.warning("gateway process %d was asked to leave: starting another", child.pid)
                    self._places[child.slot] = None
                    self._orphaned.add(child.slot)
                    self._let_leave(child, time.monotonic())
            if not heard:
                time.sleep(LOOK_SECONDS)  # its end is closed: it is about to be found dead

    def _start(self, slot: int, now: float) -> Child:
        ours, theirs = socket.socketpair()
        with theirs:
            left = Inheritance(os.getpid(), slot, theirs.fileno(), [one.fileno() for one in self._listeners])
            process = subprocess.Popen(
                self._command, env={**os.environ, **left.environ()}, pass_fds=(left.line, *left.listeners)
            )
        self._last_start[slot] = now
        return Child(process, Line(ours), slot, now)

    # Leaving

    def _ask_to_leave(self, child: Child, now: float) -> None:
        child.process.send_signal(signal.SIGTERM)
        self._let_leave(child, now)

    def _let_leave(self, child: Child, now: float) -> None:
        child.gone_by = now + self._drain_seconds + FORCE_AFTER_SECONDS
        self._leaving.append(child)

    def _is_gone(self, child: Child, now: float) -> bool:
        if child.process.poll() is None and now >= child.gone_by:
            logger.error("gateway process %d does not leave: killing it", child.pid)
            child.process.kill()
            child.process.wait()
        if child.process.poll() is None:
            return False
        status = child.process.returncode
        if self._stop_asked and (child.serves or status != -signal.SIGTERM):  # one that just starts may not hear it yet
            self._worst = max(self._worst, abs(status))
        child.line.close()
        return True

    def _end_all(self) -> None:
        """The listeners first: the children have them too, and the last to close one accepts what still waits there."""
        for listener in self._listeners:
            listener.close()
        now = time.monotonic()
        for child in (*self._places, self._successor):
            if child is not None:
                self._ask_to_leave(child, now)
        hurried = False
        while self._leaving:
            now = time.monotonic()
            if self._stop_hurried and not hurried:
                hurried = True
                for child in self._leaving:
                    child.process.send_signal(signal.SIGTERM)
                    child.gone_by = now + FORCE_AFTER_SECONDS
            self._leaving = [child for child in self._leaving if not self._is_gone(child, now)]
            if self._leaving:
                time.sleep(LOOK_SECONDS / 4)
