"""What one worker is doing, and what it does next: the whole life of a supervised engine in one table.

                 START             ANSWERED
    STOPPED ───────────▶ STARTING ──────────▶ READY
       ▲                  ▲    │ DIED           │ DIED
       │                  │DUE ▼                │
       │                 BACKING_OFF ◀──────────┘        too many times in a row ──▶ FAILED
       └── STOPPING ◀── STOP while an engine runs: it is ended first

Nothing here waits, looks at a clock or rolls dice: the moment brings the time and the chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum


class State(Enum):
    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    BACKING_OFF = "backing_off"
    FAILED = "failed"
    STOPPING = "stopping"


class Event(Enum):
    START = "start"  # begin, or a place to start in became free
    ANSWERED = "answered"  # a real inference came back
    LATE = "late"  # the start deadline passed
    DIED = "died"  # the process is gone, or could not be started
    DUE = "due"  # the wait before the next try is over
    STOP = "stop"  # somebody wants it stopped


class Action(Enum):
    NOTHING = "nothing"
    SPAWN = "spawn"  # start the engine
    END = "end"  # ask it to go, and see to it that it does; DIED follows


@dataclass(frozen=True, slots=True)
class Policy:
    """How patient the supervisor is, in seconds and in tries.

    A worker that has never answered is given up sooner: what is wrong with it rarely changes by itself.
    """

    start_within: float = 600.0
    first_wait: float = 1.0
    longest_wait: float = 30.0
    healthy_after: float = 60.0  # up for this long, earlier failures are forgotten
    first_tries: int = 3  # starts before the first answer
    tries: int = 10  # starts in a row afterwards


@dataclass(frozen=True, slots=True)
class Moment:
    """What the table may know besides the life itself. `chance` is uniform in [0, 1), `reason` says why it happened."""

    now: float
    chance: float
    policy: Policy
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Life:
    """One worker. `deadline` is when the state ends by itself, `reason` the last thing that went wrong."""

    state: State = State.STOPPED
    since: float = 0.0
    deadline: float | None = None
    failures: int = 0
    has_answered: bool = False
    reason: str = ""

    @property
    def is_over(self) -> bool:
        """Nothing further happens to it by itself."""
        return self.state in (State.STOPPED, State.FAILED)


class ImpossibleTransition(Exception):
    """An event that this state can not meet: a fault in the caller, not in the worker."""


Transition = Callable[[Life, Moment], tuple[Life, Action]]


def step(life: Life, event: Event, moment: Moment) -> tuple[Life, Action]:
    """The life after `event`, and what to do about it."""
    transition = TABLE.get((life.state, event))
    if transition is None:
        raise ImpossibleTransition(f"{event.value} while {life.state.value}")
    return transition(life, moment)


def wait_before_try(failures: int, moment: Moment) -> float:
    """Doubles with each failure up to the longest wait; the upper half is chance, so that workers spread out."""
    policy = moment.policy
    whole = min(policy.longest_wait, policy.first_wait * 2.0 ** min(failures - 1, 30))
    return whole * (0.5 + 0.5 * moment.chance)


def _spawn(life: Life, moment: Moment) -> tuple[Life, Action]:
    deadline = moment.now + moment.policy.start_within
    return replace(life, state=State.STARTING, since=moment.now, deadline=deadline), Action.SPAWN


def _ready(life: Life, moment: Moment) -> tuple[Life, Action]:
    ready = replace(life, state=State.READY, since=moment.now, deadline=None, has_answered=True, reason="")
    return ready, Action.NOTHING


def _late(life: Life, moment: Moment) -> tuple[Life, Action]:
    # Still STARTING: the process is there until DIED says otherwise, and two must never run at once.
    return replace(life, deadline=None, reason=moment.reason), Action.END


def _back_off(life: Life, moment: Moment) -> tuple[Life, Action]:
    was_healthy = life.state is State.READY and moment.now - life.since >= moment.policy.healthy_after
    failures = 1 if was_healthy else life.failures + 1
    allowed = moment.policy.tries if life.has_answered else moment.policy.first_tries
    after = replace(life, since=moment.now, deadline=None, failures=failures, reason=moment.reason or life.reason)
    if failures >= allowed:
        return replace(after, state=State.FAILED), Action.NOTHING
    due = moment.now + wait_before_try(failures, moment)
    return replace(after, state=State.BACKING_OFF, deadline=due), Action.NOTHING


def _end(life: Life, moment: Moment) -> tuple[Life, Action]:
    return replace(life, state=State.STOPPING, since=moment.now, deadline=None), Action.END


def _stopped(life: Life, moment: Moment) -> tuple[Life, Action]:
    return replace(life, state=State.STOPPED, since=moment.now, deadline=None), Action.NOTHING


TABLE: Mapping[tuple[State, Event], Transition] = {
    (State.STOPPED, Event.START): _spawn,
    (State.STOPPED, Event.STOP): _stopped,
    (State.STARTING, Event.ANSWERED): _ready,
    (State.STARTING, Event.LATE): _late,
    (State.STARTING, Event.DIED): _back_off,
    (State.STARTING, Event.STOP): _end,
    (State.READY, Event.DIED): _back_off,
    (State.READY, Event.STOP): _end,
    (State.BACKING_OFF, Event.DUE): _spawn,
    (State.BACKING_OFF, Event.STOP): _stopped,
    (State.STOPPING, Event.DIED): _stopped,
}
