"""What the limiter's books say was spent is brought to what the ledger says, to the nano-USD.

The books hear of a cost within a moment of its request's end, the ledger a moment later; both count the same rows. They
differ for longer only where a process was killed with something to tell, where the books have charged what one that is
gone might have spent, and where a correction was made. Nothing may be counted twice or forgotten for it:

    upwards     what the ledger said is told to the books only `delay` later, when everybody has told them the same:
                they take what is missing then
    downwards   when both have stood still for `delay`, this process has nothing under way, and the ledger has a reading
                of every process that shares the books from after their last change (then it has all that they told);
                the books compare, and take it only if nobody has told them anything meanwhile

Pure, but for what it tells the limiter. Times are Unix seconds, money is nano-USD.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from gateway.table import Tenant
from gateway.tenancy.limits import Limiter, Spent

SKEW_SECONDS = 1.0  # between the clocks of two processes


class _Budget:
    """One tenant's, in one period."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.said: deque[tuple[float, int]] = deque()  # by the ledger of late: when it was asked, and its answer
        self.ledger = -1
        self.ledger_since = 0.0
        self.books = -1
        self.books_since = 0.0

    def ledger_says(self, spent: int, at: float) -> None:
        self.said.append((at, spent))
        if spent != self.ledger:
            self.ledger, self.ledger_since = spent, at

    def said_by(self, at: float) -> int:
        """Its last answer up to then, once; -1 when there is no new one."""
        found = -1
        while self.said and self.said[0][0] <= at:
            found = self.said.popleft()[1]
        return found

    def books_say(self, spent: Spent | None, at: float) -> None:
        if spent is None or not spent.is_settled:
            self.books = -1
        elif spent.money != self.books:
            self.books, self.books_since = spent.money, at

    def rests(self, since: float) -> bool:
        return self.books >= 0 and self.books_since <= since and self.ledger_since <= since


class Reconciler:
    """`source` is what this process is called in the ledger's readings."""

    def __init__(self, limiter: Limiter, source: str, delay: float) -> None:
        self._limiter = limiter
        self._source = source
        self._delay = delay
        self._budgets: dict[str, _Budget] = {}
        self._doubts: set[str] = set()

    @property
    def doubts(self) -> bool:
        """Whether the books may say too much: `hear` needs to know then whom the ledger has heard from."""
        return bool(self._doubts)

    def hear(self, tenant: Tenant, start: int, spent: int, heard: Mapping[str, float], asked: float) -> None:
        """What the ledger says, `asked` then, of a tenant with a budget whose period began at `start` (Unix
        milliseconds); `heard` is the time of each process's last reading that it has, of late."""
        budget = self._budgets.get(tenant.name)
        if budget is None or budget.start != start:
            budget = self._budgets[tenant.name] = _Budget(start)
        now = self._limiter.spent(tenant, start)
        budget.ledger_says(spent, asked)
        budget.books_say(now, asked)
        known = budget.said_by(asked - self._delay)
        if known >= 0:
            self._limiter.seed(tenant, start, known)
        self._doubts.discard(tenant.name)
        if now is not None and now.money == spent:
            return
        sure = -1
        if budget.rests(asked - self._delay):
            self._doubts.add(tenant.name)
            if self._has_all(heard, budget.books_since):
                sure = budget.books
        self._limiter.inquire(tenant, sure)

    def retain(self, tenants: Mapping[str, Tenant]) -> None:
        """Forgets what others than these have left behind."""
        for name in [name for name in self._budgets if name not in tenants]:
            del self._budgets[name]
            self._doubts.discard(name)

    def _has_all(self, heard: Mapping[str, float], since: float) -> bool:
        """Whether the ledger has all that was told to the books up to then. Of books that are shared: by all who share
        them, and by nobody else, who might be one of them that can not reach them."""
        if heard.get(self._source, 0.0) < since + SKEW_SECONDS:
            return False
        state = self._limiter.state
        if state.store == "memory":
            return True
        return len(heard) == state.processes and min(heard.values()) >= since + SKEW_SECONDS
