"""This gateway's own router in the simulation: `Router.plan` on `WorkerView`s kept by `account.Place`, as in a process.

Prefix index, rates, scores, filters and breakers are the product's. What is around them in a process is done here in
few lines: polls write into the views what a poll does, and what another gateway tells is put into their lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

from gateway.errors import GatewayError
from gateway.protocol.usage import Usage
from gateway.routing.account import Foreign, Place
from gateway.routing.breaker import Breaker
from gateway.routing.names import Resolution
from gateway.routing.prefix import PrefixIndex, Prompt, root_of
from gateway.routing.rates import Kin, Line
from gateway.routing.router import Router
from gateway.routing.types import NO_PREFERENCES, Ask, Step, WorkerView
from gateway.table import Adapter, Limits, Model, Settings, Table, Tenant, Version, Worker
from loadtests.simulate import engine
from loadtests.simulate.sight import Delta, Reading
from loadtests.simulate.traffic import Request
from loadtests.simulate.world import Router as Simulated
from loadtests.simulate.world import Site
from loadtests.trace import BLOCK

MODEL, VERSION = "m", "v1"
CONTEXT = 1 << 20
FIRST_GUESS_OUTPUT_TOKENS = 256.0  # as in `gateway.serve`, and how fast it learns better
LEARNING = 0.05


class Product:
    """One gateway."""

    listens = True

    def __init__(self, site: Site) -> None:
        adapters = {f"a{number}": Adapter(f"a{number}", "", None) for number in range(site.adapters)}
        model = Model(MODEL, CONTEXT, "generate", {VERSION: Version(VERSION, None, "none", None)}, (), adapters)
        table = Table("simulated", Path(), Settings(), {}, {}, {MODEL: model}, {}, (), {}, {})
        self._router = Router(table)
        # The index counts in the trace's blocks.
        index = PrefixIndex(block_tokens=BLOCK)
        self._views: list[WorkerView] = []
        kin = Kin()
        for number, rate in enumerate(site.rates()):
            view = WorkerView(
                worker=_worker(number, site.engine.adapters),
                up=True,
                base_name=MODEL,
                adapters={name: name for name in adapters},
                prefixes=index.enrol(),
                kin=kin,
            )
            assert view.prefixes is not None
            view.prefixes.told(site.engine.blocks * BLOCK)  # a poll would
            if site.believed != 1.0:
                view.prefill_line = Line(0.0, 1 / rate)
                view.seconds_per_prompt_token = 1 / rate
            self._views.append(view)
        self._places: dict[int, tuple[Place, Breaker | None]] = {}
        self._foreign: dict[int, Foreign] = {}
        self._plans: dict[int, Step] = {}
        self._tenants: dict[str, Tenant] = {}
        self._resolved: dict[str, Resolution] = {}
        self._decode = site.engine.decode
        self._output_tokens = FIRST_GUESS_OUTPUT_TOKENS

    def choose(self, request: Request, tried: Sequence[int], now: float) -> int | None:
        tenant = self._tenants.get(request.tenant)
        if tenant is None:
            tenant = self._tenants[request.tenant] = Tenant(request.tenant, None, Limits(), None, 1.0, "standard")
        usual = int(self._output_tokens)
        name = f"{MODEL}:{request.adapter}" if request.adapter else MODEL
        prompt = _prompt(request)
        ask = Ask(name, tenant, "generate", request.prompt, usual, NO_PREFERENCES, usual, prompt)
        resolution = self._resolved.get(name)
        if resolution is None:
            resolution = self._resolved[name] = self._router.names.resolve(ask)
        try:
            plan = self._router.plan(ask, resolution, self._serving, [], draw=0.0, now=now)
        except GatewayError:
            return None
        for step in plan.steps:
            number = int(step.view.worker.name)
            if number not in tried:
                self._plans[request.number] = step
                return number
        return None

    def dispatched(self, worker: int, request: Request, now: float) -> int:
        step = self._plans.pop(request.number)
        breaker = step.view.breakers.get(step.engine_model)
        trial = breaker if breaker is not None and breaker.began(now) else None
        place = Place(step, request.prompt, now)
        self._places[request.number] = place, trial
        return place.uncached_tokens

    def first(self, worker: int, job: engine.Job, now: float) -> None:
        self._places[job.request.number][0].first_token(now)

    def ended(self, worker: int, job: engine.Job, now: float) -> None:
        request = job.request
        place, _ = self._places.pop(request.number)
        output = request.output if self._decode else 1
        place.leave(now, Usage(request.prompt, job.cached, output))
        self._output_tokens += LEARNING * (output - self._output_tokens)
        view = self._views[worker]
        view.standing.attempts += 1.0
        if (breaker := view.breakers.get(request.adapter or MODEL)) is not None:
            breaker.succeeded()

    def failed(self, worker: int, request: Request, now: float) -> None:
        place, trial = self._places.pop(request.number)
        place.leave(now, None)
        view = self._views[worker]
        view.standing.attempts += 1.0
        view.standing.failures += 1.0
        breaker = view.breakers.setdefault(request.adapter or MODEL, Breaker())
        breaker.failed(now, trial=trial is breaker)

    def polled(self, worker: int, reading: Reading) -> None:
        view = self._views[worker]
        if reading.up and not view.up:
            view.breakers.clear()
        if view.up and not reading.up and view.prefixes is not None:
            view.prefixes.clear()
        view.up = reading.up
        view.waiting, view.running, view.kv_usage = reading.waiting, reading.running, reading.kv_usage
        view.polled_at = reading.at

    def heard(self, delta: Delta, now: float) -> None:
        view, request = self._views[delta.worker], delta.request
        if delta.kind == "dispatched":
            view.elsewhere_inflight += 1
            self._foreign[request.number] = Foreign(view, delta.uncached, delta.at, None)
            if view.prefixes is not None and request.blocks:
                root = root_of(MODEL, VERSION, request.adapter, request.tenant)
                view.prefixes.insert(_chain(request), root)
        elif delta.kind == "first":
            self._foreign[request.number].passed(delta.at)
        else:
            view.elsewhere_inflight -= 1
            self._foreign.pop(request.number).passed(delta.at)

    def _serving(self, model: str, version: str | None) -> Sequence[WorkerView]:
        return self._views


def gateways(site: Site, workers: Sequence[engine.Worker], dice: Random) -> list[Simulated]:
    return [Product(site) for _ in range(site.gateways)]


def _chain(request: Request) -> list[int]:
    """Whole blocks, as the index has them."""
    return list(request.blocks[: request.prompt // BLOCK])


def _prompt(request: Request) -> Prompt | None:
    return Prompt(None, _chain(request)) if request.blocks else None


def _worker(number: int, adapters: int) -> Worker:
    return Worker(str(number), "http://simulated", "vllm", MODEL, VERSION, None, 1, adapters, None, None, None, None)
