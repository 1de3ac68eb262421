"""The gateway's own account of its workers: what each attempt holds there, and what its course says of their speed.

What polls say of a worker is old when it comes; what was sent there is known at once. So every attempt takes a `Place`
in a worker's view when it is dispatched, ceases to stand before others at its first token, and leaves when it ends, and
the scores read the view's sums: `inflight`, `pending_tokens` and the rates.

Prompts are taken to go through prefill one after another, in the order in which they were sent, by this gateway or by
others that say so (`Foreign`): the time from one
first token to the next is what the latter's uncached tokens took, and of the prompt in front a part is done that grows
with time. An answer that comes whole shows no first token; its prompt is taken to be through when it was due, or when
one that was sent later is.

All of it is arithmetic upon a `WorkerView`, with the time as an argument in seconds on any clock that does not go back:
`gateway.dispatch.Dispatch` calls it by the process's clock, a simulation by a virtual one, and both in the same way:
`Place(step, ...)` for a step of `Router.plan`, then `first_token` where the answer shows one, then `leave`.
"""

from __future__ import annotations

import math
from typing import Final

from gateway.protocol.usage import Usage
from gateway.routing.prefix import PrefixCache
from gateway.routing.rates import DECODED_KEPT
from gateway.routing.types import Step, Waiting, WorkerView

SMOOTHING: Final = 0.2  # weight of the newest answer in what is no rate
REUSE_SMOOTHING: Final = 0.05
MEMORY_SECONDS: Final = 60.0  # of a worker's rates without an answer
KEPT: Final = 0.9  # of the tokens expected in a prefix cache: where it had less, some were evicted
SHRINK: Final = 0.9  # a cache taken to be too large costs much more than one taken to be too small
GROW: Final = 1.01
MOST_TOKENS: Final = 2_000  # as which an answer counts at most, however long it says it is
SURPLUS_TOKENS: Final = 1_100  # beyond the expected ones: more than what blocks are rounded by
_UNHEARD: Final = 1e300  # when a first token is due that only another gateway sees: it shows by those that come later
SHORTEST_DECODE: Final = 0.5  # of a whole answer's time, whatever its prefill was expected to take


class Place(Waiting):
    """One attempt on one worker, from its dispatch to its end. Tokens are estimates, as in `Ask`."""

    __slots__ = (
        "_ahead",
        "_cached_tokens",
        "_number",
        "_view",
        "first_token_at",
        "opened_at",
        "prompt_tokens",
    )

    def __init__(self, step: Step, prompt_tokens: int, now: float, *, whole: bool = False) -> None:
        """The attempt is dispatched: its prompt is to go through prefill there. `whole` is an answer that shows no
        first token."""
        cached = step.cached_tokens
        uncached = prompt_tokens - cached if prompt_tokens > cached else 1
        self._view = view = step.view
        self.opened_at = now
        self.first_token_at: float | None = None
        self.prompt_tokens = prompt_tokens
        self.uncached_tokens = uncached
        self.due = math.inf
        self.is_waiting = True
        self._cached_tokens = cached
        self._ahead = 0.0
        self._number = number = view.dispatched + 1
        view.dispatched = number
        view.inflight += 1
        view.dispatched_at = now
        if not view.prefilling:
            view.prefill_since = now
            view.unseen_tokens = 0
        elif whole:
            _release_due(view, now)
            self._ahead = pending_tokens(view, now)
        if whole:
            self.due = now + view.first_token_seconds + prompt_rate(view) * (self._ahead + uncached)
        view.pending_tokens += uncached
        view.prefilling[number] = self
        usual = view.usual_uncached_tokens
        view.usual_uncached_tokens = float(uncached) if usual == 0.0 else usual + SMOOTHING * (uncached - usual)
        prompt = step.prompt
        if prompt is not None and view.prefixes is not None:
            view.prefixes.insert(prompt.chain, step.root)

    def first_token(self, now: float) -> None:
        """The prompt is through prefill: it no longer stands before those that come after it. Nothing happens when it
        was already."""
        if self.first_token_at is not None:
            return
        self.first_token_at = now
        view = self._view
        line = view.prefill_line
        if line is None:
            line = view.prefill_line = view.kin.prefill_line()
        if self.is_waiting:
            self._pass_prefill()
            line.observe(float(view.unseen_tokens), max(0.0, now - view.prefill_since))
            view.prefill_since = now
            view.unseen_tokens = 0
        else:
            line.observe(self._ahead + self.uncached_tokens, max(0.0, now - self.opened_at))
        view.rated_at = now
        view.seconds_per_prompt_token, view.first_token_seconds = line.slope, line.intercept
        view.kin.prefilled(line.slope)

    def leave(self, now: float, usage: Usage | None) -> None:
        """The attempt has ended; to be called once. `usage` is None where the answer is not whole, and says nothing."""
        view = self._view
        if usage is not None and usage.prompt_tokens and usage.output_tokens <= 1:  # its first token is its end
            self.first_token(now)
        view.inflight -= 1
        if self.is_waiting:
            if usage is not None:
                self._pass_prefill()
            else:
                if next(iter(view.prefilling)) == self._number:  # whatever was done of it, the next begins now
                    view.prefill_since = now
                    view.unseen_tokens = 0
                self.is_waiting = False
                del view.prefilling[self._number]
                view.pending_tokens -= self.uncached_tokens
        if usage is None:
            return
        if usage.cached_tokens:
            view.tells_cached = True
        if view.tells_cached and view.prefixes is not None and usage.prompt_tokens:
            had_tokens = usage.cached_tokens / usage.prompt_tokens * self.prompt_tokens
            learn_capacity(view.prefixes, self._cached_tokens, had_tokens)
        if self._cached_tokens and usage.prompt_tokens and view.tells_cached:
            had = usage.cached_tokens / usage.prompt_tokens * self.prompt_tokens / self._cached_tokens
            view.reuse += REUSE_SMOOTHING * (min(1.0, had) - view.reuse)
        if usage.output_tokens > 1:
            self._learn_decoding(now, usage.output_tokens)

    def _pass_prefill(self) -> None:
        _pass(self._view, self._number)

    def _learn_decoding(self, now: float, output_tokens: int) -> None:
        view = self._view
        if self.first_token_at is not None:
            seconds, tokens = now - self.first_token_at, output_tokens - 1
        else:
            seconds, tokens = max(now - self.due, SHORTEST_DECODE * (now - self.opened_at)), output_tokens
        seconds = max(0.0, seconds)
        if tokens > MOST_TOKENS:
            seconds, tokens = seconds / tokens * MOST_TOKENS, MOST_TOKENS
        view.rated_at = now
        view.decoded_seconds = DECODED_KEPT * view.decoded_seconds + seconds
        view.decoded_tokens = DECODED_KEPT * view.decoded_tokens + tokens
        view.seconds_per_output_token = view.decoded_seconds / view.decoded_tokens
        view.kin.decoded(seconds, tokens)


class Foreign(Waiting):
    """A prompt that another gateway has sent to a worker, until its first token. It stands in the same line: who comes
    after it waits for it, and the worker's speed is not mistaken for slowness."""

    __slots__ = ("_number", "_view")

    def __init__(self, view: WorkerView, uncached_tokens: int, at: float, due: float | None) -> None:
        """Sent `at` that time; `due` is when its first token is, where its answer shows none."""
        self._view = view
        self.uncached_tokens = uncached_tokens
        self.due = _UNHEARD if due is None else due
        self.is_waiting = True
        self._number = number = view.dispatched + 1
        view.dispatched = number
        view.dispatched_at = max(view.dispatched_at, at)
        if not view.prefilling:
            view.prefill_since = max(view.prefill_since, at)
            view.unseen_tokens = 0
        view.pending_tokens += uncached_tokens
        view.prefilling[number] = self

    def passed(self, at: float) -> None:
        """It had its first token, or has ended without."""
        if self.is_waiting:
            view = self._view
            _pass(view, self._number)
            view.prefill_since = max(view.prefill_since, at)
            view.unseen_tokens = 0


def pending_tokens(view: WorkerView, now: float) -> float:
    """Uncached prompt tokens that were sent there and are still to go through prefill, without the part of the one in
    front that is done by now."""
    if not view.prefilling:
        return float(view.pending_tokens)
    rate, since = prompt_rate(view), now - view.prefill_since
    if since <= 0.0:
        return float(view.pending_tokens)
    first = 0.0
    for waiting in view.prefilling.values():  # compiled, `next(iter(...))` takes several times as long
        first = float(waiting.uncached_tokens)
        break
    return view.pending_tokens - (first if since >= rate * first else since / rate)


def prompt_rate(view: WorkerView) -> float:
    """Seconds for a prompt token that is not cached."""
    rate = view.seconds_per_prompt_token
    return view.kin.seconds_per_prompt_token if rate is None else rate


def learn_capacity(prefixes: PrefixCache, expected_tokens: float, had_tokens: float) -> None:
    """What an engine had of a prompt, beside what it was expected to have, says whether its cache is larger or smaller
    than was thought. Tokens."""
    if expected_tokens and had_tokens < KEPT * expected_tokens:
        prefixes.limit(int(SHRINK * min(prefixes.most, len(prefixes))))
    elif had_tokens > expected_tokens + SURPLUS_TOKENS:
        prefixes.limit(int(GROW * prefixes.most) + 1)


def forget_rates(view: WorkerView, now: float) -> None:
    """A worker that has not answered for long may have become faster: it is taken to be like its kin again."""
    if view.seconds_per_prompt_token is None and view.seconds_per_output_token is None:
        return
    if now - view.rated_at < MEMORY_SECONDS:
        return
    kin = view.kin
    view.prefill_line = None
    if view.seconds_per_prompt_token is not None:
        view.seconds_per_prompt_token = min(view.seconds_per_prompt_token, kin.seconds_per_prompt_token)
        view.first_token_seconds = 0.0
    if view.seconds_per_output_token is not None:
        view.seconds_per_output_token = min(view.seconds_per_output_token, kin.seconds_per_output_token)
        view.decoded_seconds = view.decoded_tokens = 0.0


def _pass(view: WorkerView, own: int) -> None:
    """The prompt of that number is through, and so are those before it that show no first token here."""
    if len(view.prefilling) > 1:
        late: list[int] = []
        for number, waiting in view.prefilling.items():
            if number >= own:
                break
            if waiting.due < math.inf:
                late.append(number)
        for number in late:
            _release(view, number)
    _release(view, own)


def _release_due(view: WorkerView, now: float) -> None:
    """Whole answers whose first token is due have it, as far as they stand in front."""
    late: list[int] = []
    for number, waiting in view.prefilling.items():
        if waiting.due > now:
            break
        late.append(number)
    for number in late:
        _release(view, number)


def _release(view: WorkerView, number: int) -> None:
    waiting = view.prefilling[number]
    del view.prefilling[number]
    waiting.is_waiting = False
    view.pending_tokens -= waiting.uncached_tokens
    view.unseen_tokens += waiting.uncached_tokens


def smooth(old: float | None, new: float) -> float:
    return new if old is None else old + SMOOTHING * (new - old)
