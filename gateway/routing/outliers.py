"""Which workers fail so much more often than their siblings that they are left alone for a while.

The breaker opens on failures in a row; a worker that fails one request in four never has enough of them. Compared with
the others that serve the same version, it stands out. (Envoy calls this outlier detection by success rate.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FADE = 0.9  # what a look leaves of the counts: with one a second, they remember about ten seconds
FEWEST = 10.0  # attempts below which a share says nothing
WORST_SHARE = 0.2  # of attempts that fail, below which nobody is ejected
TIMES_THE_OTHERS = 3.0
FIRST_EJECTION = 10.0  # seconds, times how often it was ejected lately
LONGEST_EJECTION = 300.0


@dataclass(slots=True)
class Standing:
    """How a worker has fared of late: its attempts and those that failed by its fault, the old ones faded."""

    attempts: float = 0.0
    failures: float = 0.0
    ejections: int = 0  # each good look takes one off
    ejected_until: float = 0.0  # seconds on the caller's clock

    @property
    def share(self) -> float:
        return self.failures / self.attempts if self.attempts else 0.0


def look(siblings: Sequence[Standing], now: float) -> list[int]:
    """Ejects who stands out, fades all counts, and gives the places of the newly ejected. Never more than half of
    the siblings are out at once, so that one of two stays, and the only one always."""
    out = sum(1 for one in siblings if one.ejected_until > now)
    ejected: list[int] = []
    for place in sorted(range(len(siblings)), key=lambda at: siblings[at].share, reverse=True):
        one = siblings[place]
        if one.ejected_until > now or not _stands_out(one, siblings):
            continue
        if out >= len(siblings) // 2:
            break
        one.ejections += 1
        one.ejected_until = now + min(LONGEST_EJECTION, FIRST_EJECTION * one.ejections)
        one.attempts = one.failures = 0.0  # judged anew when it is back
        out += 1
        ejected.append(place)
    for one in siblings:
        if one.ejections and one.ejected_until <= now and one.attempts >= FEWEST and one.share < WORST_SHARE:
            one.ejections -= 1
        one.attempts *= FADE
        one.failures *= FADE
    return ejected


def _stands_out(one: Standing, siblings: Sequence[Standing]) -> bool:
    if one.attempts < FEWEST or one.share < WORST_SHARE:
        return False
    attempts = sum(other.attempts for other in siblings) - one.attempts
    failures = sum(other.failures for other in siblings) - one.failures
    return attempts >= FEWEST and one.share >= TIMES_THE_OTHERS * failures / attempts
