"""One attempt of one request on one worker: the account it holds open, and the single row it leaves in the ledger.

Opening takes a place in the worker's in-flight account and starts its share of the worker's time; closing gives both
back, records what it cost, and tells the worker's breaker and the tenant's share how it went. The first outcome wins
and closing is synchronous, so a cancelled task settles too.
"""

from __future__ import annotations

from typing import Final

from gateway.clock import monotonic
from gateway.errors import AdapterNotLoaded, GatewayError, Overloaded, UpstreamError
from gateway.fleet.backend import Backend
from gateway.ledger.pricing import gpu_cost, token_cost
from gateway.ledger.record import Booking, CostBasis, Outcome
from gateway.protocol.usage import Usage
from gateway.routing.account import Place, smooth
from gateway.routing.fair import Charge
from gateway.routing.types import Step
from gateway.series import Series

LEARN_TOKENS: Final = 8  # of a stream, for it to say how many tokens are in an event


class Dispatch:
    """Times are `time.monotonic()` seconds, `gpu_ns` nanoseconds of the worker's time, costs nano-USD."""

    __slots__ = (
        "_entered",
        "_told",
        "_trial",
        "_unseen_tokens",
        "backend",
        "booking",
        "charge",
        "closed_at",
        "cost_basis",
        "cost_nanousd",
        "gpu_ns",
        "number",
        "opened_at",
        "opened_wall",
        "outcome",
        "place",
        "series",
        "step",
    )

    def __init__(self, backend: Backend, step: Step, number: int, prompt_tokens: int, unseen_tokens: int) -> None:
        """`unseen_tokens` is the most that may be generated without a sign: 0 for a stream, whose events show it."""
        self.backend = backend
        self.step = step
        self.number = number  # 1 for the first attempt of a request
        self.opened_at = now = monotonic()
        self.closed_at = 0.0
        self.outcome: Outcome | None = None
        self.charge: Charge | None = None  # against its tenant's share, where it waited for its place
        self.gpu_ns = 0
        self.cost_nanousd = 0
        worker = backend.worker
        self.cost_basis: CostBasis = (
            "token_price" if worker.price is not None else "gpu_time" if worker.hourly else "none"
        )
        self.series: Series | None = None  # once its intent is written to the ledger; so is what follows
        self.booking: Booking | None = None
        self.opened_wall = 0.0  # `opened_at` in Unix seconds
        self._unseen_tokens = unseen_tokens
        breaker = backend.breakers.get(step.engine_model) if backend.breakers else None
        self._trial = breaker if breaker is not None and breaker.began(now) else None
        if step.target.adapter is not None and backend.shelf is not None:
            backend.shelf.enter(step.engine_model)
        self.place = Place(step, prompt_tokens, now, whole=unseen_tokens > 0)
        news = backend.news
        self._told = 0 if news is None else news.sent(worker.url, self.place, step)
        self._entered = backend.meter.enter(now)

    def first_token(self) -> None:
        """The prompt is through prefill: it no longer stands before those that come after it."""
        now = monotonic()
        self.place.first_token(now)
        if self._told:
            self._tell_passed(now)

    @property
    def first_token_at(self) -> float | None:
        return self.place.first_token_at

    def blame(self, error: GatewayError) -> None:
        """What this failure says of the worker to those that come after; to be told before `close`."""
        backend, now = self.backend, monotonic()
        if isinstance(error, Overloaded):
            backend.full(now)
        elif isinstance(error, UpstreamError) and not isinstance(error, AdapterNotLoaded):
            backend.failed(self.step.engine_model, now, trial=self._trial)
            self._trial = None

    @property
    def hourly(self) -> int:
        """Nano-USD an hour of a worker that is priced by its time; 0 where tokens are, or nothing is."""
        worker = self.backend.worker
        return 0 if worker.price is not None else worker.hourly

    def cost_so_far(self, now: float) -> int:
        """In nano-USD, of an attempt that is under way on such a worker."""
        return gpu_cost(self.backend.meter.share(self._entered, now), self.hourly)

    def so_far(self, now: float, usage: Usage) -> tuple[int, int]:
        """Nanoseconds of the worker's time and nano-USD, if it ended now."""
        backend = self.backend
        price, gpu_ns = backend.worker.price, backend.meter.share(self._entered, now)
        return gpu_ns, token_cost(price, *usage) if price is not None else gpu_cost(gpu_ns, self.hourly)

    @property
    def prompt_tokens(self) -> int:
        """As estimated before it was asked."""
        return self.place.prompt_tokens

    def close(self, outcome: Outcome, usage: Usage) -> bool:
        """Ends the attempt; False when it had ended already."""
        if self.outcome is not None:
            return False
        self.outcome = outcome
        self.closed_at = now = monotonic()
        backend = self.backend
        place = self.place
        place.leave(now, usage if outcome == "ok" else None)
        if self._told:
            self._tell_passed(now)
        if self.step.target.adapter is not None and backend.shelf is not None:
            backend.shelf.leave(self.step.engine_model, now)
        self.gpu_ns = backend.meter.leave(self._entered, now)
        if outcome == "ok" or outcome == "rejected":
            backend.succeeded(self.step.engine_model)
        elif self._trial is not None:
            self._trial.left_open()
        if self.charge is not None:
            if outcome == "failed" or outcome == "rejected":
                self.charge.void()
            else:
                self.charge.settle(usage)
        if backend.queue.waiting:
            backend.let_in(now)
        worker = backend.worker
        if outcome in ("failed", "rejected"):  # no work done; what it held of the worker's time stays with the worker
            self.gpu_ns = 0
        elif worker.price is not None:
            self.cost_nanousd = token_cost(worker.price, *usage)
        elif worker.hourly:
            self.cost_nanousd = gpu_cost(self.gpu_ns, worker.hourly)
        if outcome == "ok" and usage.prompt_tokens:
            backend.prompt_ratio = smooth(backend.prompt_ratio, usage.prompt_tokens / max(1, place.prompt_tokens))
        return True

    def _tell_passed(self, now: float) -> None:
        """Other gateways, that its prompt stands before theirs no longer."""
        news = self.backend.news
        if news is not None:
            news.passed(self.backend.worker.url, self._told, now)
        self._told = 0

    def learn_stream(self, tokens: int, usage: Usage) -> None:
        """A whole stream showed so many tokens, and had so many by its usage."""
        if tokens >= LEARN_TOKENS:
            backend = self.backend
            backend.event_ratio = smooth(backend.event_ratio, usage.output_tokens / tokens)

    def estimated_usage(self, tokens: int, reported: Usage | None) -> Usage:
        """The usage of an attempt whose engine never said how it ended; `reported` is what it said until then.

        A stream shows its `tokens`, as far as this worker's streams do. Whole answers show nothing: what the worker's
        measured rates say it can have done in the time, as far as the request went.
        """
        backend = self.backend
        output = tokens if backend.event_ratio is None else int(tokens * backend.event_ratio + 0.5)
        if reported is not None:  # the prompt is known, and the output up to there
            return Usage(reported.prompt_tokens, reported.cached_tokens, max(reported.output_tokens, output))
        prompt = self.place.prompt_tokens
        if backend.prompt_ratio is not None:
            prompt = max(1, int(prompt * backend.prompt_ratio + 0.5))
        if tokens:
            return Usage(prompt, 0, output)
        per_prompt, per_output = backend.seconds_per_prompt_token, backend.seconds_per_output_token
        if per_output is None:
            return Usage(prompt, 0, 0)
        decoding = monotonic() - self.opened_at - self.place.prompt_tokens * (per_prompt or 0.0)
        return Usage(prompt, 0, min(self._unseen_tokens, max(0, int(decoding / per_output))))
