"""The gateway's own account of its workers: what each attempt holds there, and what its course says of their speed.

What polls say of a worker is old when it comes; what was sent there is known at once. So every attempt takes a `Place`
in a worker's view when it is dispatched, ceases to stand before others at its first token, and leaves when it ends, and
the scores read the view's sums: `inflight`, `pending_tokens` and the rates.

All of it is arithmetic upon a `WorkerView`, with the time as an argument in seconds on any clock that does not go back:
`gateway.dispatch.Dispatch` calls it by the process's clock, a simulation by a virtual one, and both in the same way:
`Place(step, ...)` for a step of `Router.plan`, then `first_token` where the answer shows one, then `leave`.
"""

from __future__ import annotations

from gateway.protocol.usage import Usage
from gateway.routing.types import Step

SMOOTHING = 0.2  # weight of the newest answer in a worker's measured rates


class Place:
    """One attempt on one worker, from its dispatch to its end. Tokens are estimates, as in `Ask`."""

    __slots__ = ("_pending", "_view", "first_token_at", "opened_at", "prompt_tokens", "uncached_tokens")

    def __init__(self, step: Step, prompt_tokens: int, now: float) -> None:
        """The attempt is dispatched: its prompt is to go through prefill there."""
        self._view = view = step.view
        self.opened_at = now
        self.first_token_at: float | None = None
        self.prompt_tokens = self.uncached_tokens = self._pending = prompt_tokens
        view.inflight += 1
        view.pending_tokens += prompt_tokens

    def first_token(self, now: float) -> None:
        """The prompt is through prefill: it no longer stands before those that come after it. Nothing happens when it
        was already."""
        if self.first_token_at is not None:
            return
        self.first_token_at = now
        view = self._view
        view.pending_tokens -= self._pending
        self._pending = 0
        queued = max(1, view.pending_tokens + self.uncached_tokens)
        view.seconds_per_prompt_token = smooth(view.seconds_per_prompt_token, (now - self.opened_at) / queued)

    def leave(self, now: float, usage: Usage | None) -> None:
        """The attempt has ended; to be called once. `usage` is None where the answer is not whole, and says nothing."""
        view = self._view
        view.inflight -= 1
        view.pending_tokens -= self._pending
        self._pending = 0
        if usage is not None and usage.output_tokens > 1:
            since = self.first_token_at or self.opened_at
            rate = (now - since) / usage.output_tokens
            view.seconds_per_output_token = smooth(view.seconds_per_output_token, rate)


def smooth(old: float | None, new: float) -> float:
    return new if old is None else old + SMOOTHING * (new - old)
