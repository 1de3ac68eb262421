"""Fair shares: what each tenant has had of workers that are full, and so whose turn it is.

Virtual token counters (VTC: Sheng et al., OSDI 2024) with the lift of start-time fair queueing (SFQ: Goyal et al.,
SIGCOMM 1996). Only what was waited for is charged: places that nobody waited for are anyone's, and cost no share. What
a request will cost is guessed when it gets its place and put right when it ends, also when it was broken off.
"""

from __future__ import annotations

from gateway.protocol.usage import Usage
from gateway.table import PRIORITIES, Priority

OUTPUT = 2.0  # an output token against one of the prompt: VTC's figure, and the lower end of what hosted models charge
CACHED = 0.1  # a prompt token from the prefix cache: no compute, but memory it holds; it is sold at a tenth
SMOOTHING = 0.1  # weight of the newest interval in a turnover
LENGTH_SMOOTHING = 0.2  # weight of the newest answer in how long a tenant's usually are
ENOUGH = 8  # intervals make a turnover: an engine's first answers are slow
EVIDENCE_SECONDS = 30.0  # a turnover older than this, and than two of its intervals, says nothing any more


def cost(usage: Usage) -> float:
    """What an answer took of a worker, in prompt tokens computed."""
    return usage.prompt_tokens - (1.0 - CACHED) * usage.cached_tokens + OUTPUT * usage.output_tokens


def rank(own: Priority, asked: Priority | None) -> int:
    """The class a request waits in, 0 for the first: its sender's own, or a lower one that it asks for itself."""
    of_sender = PRIORITIES.index(own)
    return of_sender if asked is None else max(of_sender, PRIORITIES.index(asked))


class Turnover:
    """Seconds between two places given while somebody waited for the next: their mean at first, then smoothed."""

    __slots__ = ("_at", "_count", "_seconds", "_waited_for")

    def __init__(self) -> None:
        self._seconds = 0.0
        self._count = 0
        self._at = 0.0
        self._waited_for = False

    def given(self, now: float, more: bool) -> None:
        """A place was given, and `more` wait for the next."""
        if self._waited_for:
            self._count += 1
            self._seconds += max(SMOOTHING, 1.0 / self._count) * (now - self._at - self._seconds)
        self._at = now
        self._waited_for = more

    def seconds(self, now: float) -> float | None:
        """None while there is no measure, or none that is recent: nobody is to be refused by a guess."""
        if self._count < ENOUGH or now - self._at > max(EVIDENCE_SECONDS, 2.0 * self._seconds):
            return None
        return self._seconds


class Contest:
    """The tenants of one class before the workers of one model; `virtual` is the counter that was served last.

    Who begins to wait starts no lower than that: nothing is saved up by being away. Once nobody waits and all that was
    waited for has ended, every account is closed: nothing is owed either.
    """

    __slots__ = ("_accounts", "_open", "virtual")

    def __init__(self) -> None:
        self.virtual = 0.0
        self._accounts: dict[str, Account] = {}
        self._open = 0  # requests that wait, and charges not yet settled

    def account(self, tenant: str) -> Account:
        account = self._accounts.get(tenant)
        if account is None:
            account = self._accounts[tenant] = Account(self)
        return account

    def opened(self) -> None:
        self._open += 1

    def closed(self) -> None:
        self._open -= 1
        if not self._open:
            self.virtual = 0.0
            self._accounts.clear()


class Account:
    """One tenant's in a contest. `counter` is the cost of what it got over its weight, `waiting` how many requests
    want more, and `step` what the latest of them will add."""

    __slots__ = ("_output_tokens", "contest", "counter", "step", "turnover", "waiting")

    def __init__(self, contest: Contest) -> None:
        self.contest = contest
        self.counter = 0.0
        self.step = 0.0
        self.turnover = Turnover()
        self.waiting = 0
        self._output_tokens: float | None = None  # of its answers, smoothed

    @property
    def start(self) -> float:
        """The counter its next request would begin at."""
        return self.counter if self.waiting else max(self.counter, self.contest.virtual)

    def arrived(self, step: float) -> None:
        self.counter = self.start
        self.step = step
        self.waiting += 1
        self.contest.opened()

    def left(self) -> None:
        self.waiting -= 1
        self.contest.closed()

    def expected_cost(self, prompt_tokens: int, most_output_tokens: int) -> float:
        """Answers are seldom as long as they may be; charged for that, a tenant would have too few places at a time."""
        usual = self._output_tokens
        return prompt_tokens + OUTPUT * (most_output_tokens if usual is None else min(usual, most_output_tokens))

    def charge(self, expected: float, weight: float, now: float) -> Charge:
        """One of its requests gets a place; it still counts as waiting."""
        contest = self.contest
        contest.virtual = max(contest.virtual, self.counter)
        contest.opened()
        self.counter += expected / weight
        self.turnover.given(now, self.waiting > 1)
        return Charge(self, expected, weight)

    def answered(self, output_tokens: int) -> None:
        usual = self._output_tokens
        if usual is None:
            self._output_tokens = float(output_tokens)
        else:
            self._output_tokens = usual + LENGTH_SMOOTHING * (output_tokens - usual)


class Charge:
    """What a request that waited is charged for its place, until `settle` or `void`, once, puts it right."""

    __slots__ = ("_account", "_expected", "_weight")

    def __init__(self, account: Account, expected: float, weight: float) -> None:
        self._account = account
        self._expected = expected
        self._weight = weight

    def settle(self, usage: Usage) -> None:
        """What was guessed stands where nothing was counted, as for a recording."""
        took = cost(usage)
        if took > 0.0:
            self._account.counter += (took - self._expected) / self._weight
        if usage.output_tokens:
            self._account.answered(usage.output_tokens)
        self._account.contest.closed()

    def void(self) -> None:
        """Nothing was done."""
        self._account.counter -= self._expected / self._weight
        self._account.contest.closed()
