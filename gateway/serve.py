"""The story of one request: admit, plan, call workers, stream or answer, settle.

`Service.handle` is the whole of it for a client's exchange. A story's steps raise `GatewayError` to refuse; a client
that leaves cancels the task wherever it is; either way the settlement runs once, synchronously.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.admission import admit, admit_at_once
from gateway.cache.entry import Entry, Store
from gateway.cache.flight import Flights
from gateway.cache.key import cache_key, is_deterministic
from gateway.call import EVENT_STREAM, JSON, Call, relay_of
from gateway.clock import monotonic, wall, wall_ns
from gateway.downstream.exchange import Exchange
from gateway.downstream.ids import new_request_id
from gateway.errors import (
    GatewayError,
    InternalError,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    UpstreamError,
)
from gateway.fleet.registry import Fleet
from gateway.protocol.endpoints import ENDPOINTS
from gateway.protocol.request import Request, read_request
from gateway.protocol.stream import StreamRelay, error_event, renames
from gateway.protocol.usage import NO_USAGE, Usage
from gateway.race import Race, Racing
from gateway.routing.preferences import read_preferences
from gateway.routing.prefix import BLOCK_BYTES, Prompt
from gateway.routing.router import Router, spell
from gateway.routing.types import NO_PREFERENCES, Ask, Plan
from gateway.series import place_lines
from gateway.settle import Settlement
from gateway.spelling import billionths
from gateway.spending import Spending
from gateway.table import Key, Table
from gateway.telemetry import Metrics
from gateway.tenancy.access import forbidden, require_endpoint
from gateway.tenancy.keys import Keys, authenticate
from gateway.tenancy.limiter import MemoryLimiter
from gateway.tenancy.reservation import Lengths
from gateway.trace import Admitted, Trace
from gateway.upstream.response import Response

logger = logging.getLogger("tollgate.serve")

_draw: Final = random.random

FIRST_GUESS_OUTPUT_TOKENS: Final = 256.0
CHECKPOINT_TOKENS: Final = 64  # of a stream, between two checkpoints in the ledger

_FIRST_ATTEMPT: Final = b"x-tollgate-attempts: 1"  # as nearly every answer says


@dataclass(frozen=True, slots=True)
class Revision:
    """One configuration, its router and the keys that are let in; a request keeps the one it started with."""

    table: Table
    router: Router
    keys: Keys


class Service:
    """Everything a request needs, wired by the composition root."""

    def __init__(
        self,
        *,
        revision: Revision,
        fleet: Fleet,
        limiter: MemoryLimiter,
        store: Store,
        flights: Flights,
        metrics: Metrics,
        settlement: Settlement,
    ) -> None:
        self.revision = revision
        self.fleet = fleet
        self.limiter = limiter
        self.store = store
        self.flights = flights
        self.metrics = metrics
        self.settlement = settlement
        self.racing = Racing(fleet, settlement)
        self.output_tokens: dict[str, float] = {}  # name that was asked for -> smoothed length of its answers
        self.lengths = Lengths()
        self.spending = Spending()

    def screen(self, exchange: Exchange) -> GatewayError | None:
        """Why a request can be refused by its head alone, while its body is still coming; None when it can not."""
        try:
            key = authenticate(exchange.headers, self.revision.keys, wall())
            require_endpoint(key, ENDPOINTS[exchange.path].name)
        except GatewayError as error:
            return error
        return None

    def handle(self, exchange: Exchange) -> Coroutine[Any, Any, None]:
        """Answers one exchange; never raises. To be run at once."""
        return Story(self, exchange).run()

    def usual_output_tokens(self, asked: str) -> float:
        """How long answers are to a name that requests ask for."""
        usual = self.output_tokens.get(asked)
        return FIRST_GUESS_OUTPUT_TOKENS if usual is None else usual

    def learn(self, tenant: str, asked: str, model: str, output_tokens: int) -> None:
        """Remembers how long answers are: to a name that requests ask for, and of a model to that tenant."""
        self.lengths.observe(tenant, model, output_tokens)
        old = self.usual_output_tokens(asked)
        self.output_tokens[asked] = old + 0.05 * (output_tokens - old)


class Story:
    """One request from its arrival to the end of its answer."""

    __slots__ = ("_call", "_exchange", "_revision", "_service", "trace")

    def __init__(self, service: Service, exchange: Exchange) -> None:
        self._service = service
        self._exchange = exchange
        self._revision = service.revision
        self._call: Call | None = None  # whose answer has begun
        milliseconds = wall_ns() // 1_000_000  # the same in the id and in the books, whose hours it decides on
        self.trace = Trace(new_request_id(milliseconds), exchange, service.revision.table, milliseconds / 1000)

    async def run(self) -> None:
        """All of it; never raises."""
        try:
            if self._exchange.refusal is not None:
                with contextlib.suppress(GatewayError):  # whose it is stands in the log
                    self.trace.key = authenticate(self._exchange.headers, self._revision.keys, self.trace.started_at)
                raise self._exchange.refusal
            service, table = self._service, self._revision.table
            key, request, ask, plan = self._plan()
            lease = admit_at_once(service.limiter, service.lengths, table, request, key, plan)
            if lease is None:
                plan, lease = await admit(service.limiter, service.lengths, table, request, key, plan)
            admitted = self._admitted(Admitted(request, key, ask, plan, lease))
            fields = _cacheable(admitted)
            if fields is not None:
                await self._answer_through_cache(admitted, fields)
            else:
                await self._answer_from_workers(admitted)
        except GatewayError as error:
            self.refuse(error)
        except asyncio.CancelledError:
            self.leave()
        except Exception:  # the last line of defence: a fault of ours is a 500 with an id, and a traceback in the log
            self.abandon()
            logger.exception("request failed", extra={"fields": {"request_id": self.trace.id}})
            self.refuse(InternalError(f"The gateway failed on this request ({self.trace.id})."))
        finally:
            self._service.settlement.settle(self.trace)
            self._service.spending.forget(self.trace)

    def _plan(self) -> tuple[Key, Request, Ask, Plan]:
        """Who asks for what, and who may answer it."""
        exchange, service, trace = self._exchange, self._service, self.trace
        if service.settlement.has_no_room:
            raise Overloaded("The ledger has no room for another request.", retry_after=5.0, code="ledger_full")
        revision = self._revision
        trace.key = key = authenticate(exchange.headers, revision.keys, trace.started_at)
        endpoint = ENDPOINTS[exchange.path]
        require_endpoint(key, endpoint.name)
        trace.request = request = read_request(endpoint, exchange.header(b"content-type"), exchange.body)
        preferences = NO_PREFERENCES if request.routing is None else read_preferences(request.routing)
        usual = most = 0
        if endpoint.task == "generate":
            usual = int(service.usual_output_tokens(request.model) * request.choices)
            most = usual if request.max_output_tokens is None else request.max_output_tokens * request.choices
        prompt = None
        if request.prompt_bytes >= BLOCK_BYTES and request.fields is not None:
            prompt = Prompt(request.fields)
        tokens = request.estimated_prompt_tokens
        ask = Ask(request.model, key.tenant, endpoint.task, tokens, most, preferences, usual, prompt)
        trace.ask = ask
        router = revision.router
        resolution = router.names.resolve(ask)
        out = forbidden(key, revision.table.models, resolution.route, ask.model)
        plan = router.plan(ask, resolution, service.fleet.views, out, draw=_draw(), now=monotonic())
        return key, request, ask, plan

    def _admitted(self, admitted: Admitted) -> Admitted:
        self.trace.admitted = admitted
        budget = admitted.key.tenant.budget
        if budget is not None and budget.on_exceed == "reject":
            cancel = self._exchange.on_leave
            assert cancel is not None  # as long as its client has not left
            self._service.spending.watch(self.trace, cancel)
        return admitted

    # From the cache

    async def _answer_through_cache(self, admitted: Admitted, fields: Mapping[str, Any]) -> None:
        """A kept answer, or that of an identical request under way, or a new one that is kept for the next."""
        service, trace = self._service, self.trace
        step = admitted.plan.steps[0]
        target = step.target
        if target.adapter and not step.engine_model:  # which version would answer is not known yet
            await self._answer_from_workers(admitted)
            return
        key = cache_key(
            admitted.key.tenant.name,
            f"{target.model}@{target.version}",
            step.engine_model if target.adapter else "",  # with its version
            admitted.request.endpoint.name,
            fields,
        )
        entry = await service.store.get(key)
        if entry is not None:
            self._replay(admitted, entry)
            return
        flight = service.flights.join(key)
        try:
            shared = await flight.wait()
            if shared is not None:
                self._replay(admitted, shared)
                return
            trace.cache = "miss"
            kept = await self._answer_from_workers(admitted)
            if kept is not None and len(kept.body) <= self._revision.table.settings.cache.max_entry_bytes:
                service.store.put(key, kept, admitted.plan.route.cache.ttl)
                flight.land(kept)
            else:
                flight.land(None)
        finally:
            flight.leave()

    def _replay(self, admitted: Admitted, entry: Entry) -> None:
        exchange, trace, request = self._exchange, self.trace, admitted.request
        trace.cache = "hit"
        trace.usage = Usage(entry.prompt_tokens, entry.cached_tokens, entry.output_tokens)
        trace.first_at = trace.answered_at = monotonic()
        headers = self._headers(entry)
        if entry.content_type.startswith(EVENT_STREAM):
            relay = relay_of(request, entry.engine_model, _no_frame_error)
            body = relay.feed(entry.body) + relay.finish()
            exchange.start(200, entry.content_type, headers)
            exchange.write(body)
            exchange.finish()
        else:
            headers.append(_cost_header(0))
            exchange.respond(200, entry.content_type, headers, _renamed(entry.body, entry.engine_model, request.model))

    # From the workers

    async def _answer_from_workers(self, admitted: Admitted) -> Entry | None:
        """The answer of the first worker that has one. Gives it back in a form that can be kept, None when it should
        not be."""
        self._call = call = await Race(self._service.racing, self.trace, admitted).winner()
        if call.relay is not None and call.response is not None:
            return await self._stream(call, call.relay, call.response)
        return self._whole(admitted.request, call)

    def _whole(self, request: Request, call: Call) -> Entry | None:
        trace, dispatch, answer = self.trace, call.dispatch, call.body
        step = dispatch.step
        trace.usage = usage = dispatch.backend.endings.find_usage(answer) or NO_USAGE
        trace.measured = True
        dispatch.close("ok", usage)
        if usage.output_tokens:
            self._learn(step.target.model, usage.output_tokens)
        headers = self._headers()
        cost = dispatch.cost_nanousd
        if trace.others:
            cost += sum([row.cost_nanousd for row in trace.others])
        headers.append(_cost_header(cost))
        trace.answered_at = monotonic()
        body = _renamed(answer, step.engine_model, request.model)
        self._exchange.respond(call.status, call.content_type, headers, body)
        if call.status != 200 or trace.cache != "miss":
            return None
        return Entry(answer, call.content_type, spell(step.target), step.engine_model, *usage)

    async def _stream(self, call: Call, relay: StreamRelay, response: Response) -> Entry | None:
        """Passes the stream on: from the worker's socket to the client's in one call, without a task switch."""
        exchange, trace, dispatch = self._exchange, self.trace, call.dispatch
        settlement = self._service.settlement
        step = dispatch.step
        most_kept = self._revision.table.settings.cache.max_entry_bytes
        kept = call.raw if trace.cache == "miss" else None
        kept_bytes = 0
        checkpoint_at = CHECKPOINT_TOKENS
        observe_gap = self._service.metrics.gaps(step.target.model, step.target.version or "").observe
        exchange.start(response.status, call.content_type, self._headers())
        exchange.write(call.first)
        call.first, call.raw = b"", []  # thousands of streams may be open: what is passed on is not kept
        trace.first_at = trace.answered_at = last = monotonic()

        def pass_on(data: bytes) -> None:
            nonlocal last, kept, kept_bytes, checkpoint_at
            now = monotonic()
            observe_gap(now - last)
            last = now
            exchange.write(relay.feed(data))
            state = relay.state
            if state == "ended":
                exchange.finish()  # the client has all of it, whatever its worker still has to say
            elif state == "broken":
                response.abort()
            elif exchange.is_behind:
                response.pause()
            tokens = relay.tokens
            if tokens >= checkpoint_at:
                checkpoint_at = tokens + CHECKPOINT_TOKENS
                settlement.checkpoint(trace, dispatch, tokens, relay.usage)
            if kept is not None:
                kept.append(data)
                kept_bytes += len(data)
                if kept_bytes > most_kept:
                    kept = None

        exchange.on_drain = response.resume
        if relay.state == "ended":
            exchange.finish()
        elif exchange.is_behind:
            response.pause()
        try:
            await response.pipe(pass_on)
        except UpstreamError as error:
            exchange.write(relay.broke(error))
        finally:
            trace.usage = usage = relay.usage
            trace.tokens = relay.tokens
            trace.measured = usage is not None and relay.state == "ended"
        exchange.write(relay.finish())
        exchange.finish()
        if usage is None or not trace.measured:
            usage = dispatch.estimated_usage(relay.tokens, usage)
        else:
            dispatch.learn_stream(relay.tokens, usage)
        if relay.error is not None:
            trace.error = relay.error
            dispatch.blame(relay.error)
            dispatch.close("broken", usage)
            return None
        dispatch.close("ok", usage)
        if relay.usage is None:
            return None
        self._learn(step.target.model, usage.output_tokens)
        if kept is None:
            return None
        return Entry(b"".join(kept), call.content_type, spell(step.target), step.engine_model, *usage)

    # When it does not work out

    def abandon(self) -> None:
        """Drops the worker's answer, if one is under way, so that its engine stops."""
        if self._call is not None:
            self._call.abort()

    def refuse(self, error: GatewayError) -> None:
        """Answers with an error, or ends a stream that has begun with an error event."""
        exchange, trace = self._exchange, self.trace
        trace.error = error
        if exchange.started:
            if not exchange.response_complete:
                exchange.write(error_event(ENDPOINTS[exchange.path], error))
                exchange.finish()
            return
        headers = self._headers()
        if error.retry_after is not None:
            headers.append(b"retry-after: %d" % max(1, round(error.retry_after + 0.499)))
            headers.append(b"retry-after-ms: %d" % max(1, round(error.retry_after * 1000)))
        if not error.retryable:
            headers.append(b"x-should-retry: false")
        body = error.body()
        if exchange.path == "/v1/messages":  # its SDK reads the type beside the error
            body = b'{"type":"error",' + body[1:]
        if isinstance(error, RateLimited | QuotaExhausted) and trace.key is not None:
            self._service.metrics.refusals.labels(trace.key.tenant.name, error.code or "").inc()
        exchange.respond(error.status, JSON, headers, body)

    def leave(self) -> None:
        """The client has gone, or the gateway is being stopped with the answer under way."""
        exchange, metrics = self._exchange, self._service.metrics
        self.abandon()
        if self.trace.cut is not None and not exchange.disconnected:
            self.refuse(self.trace.cut)
        elif exchange.disconnected:
            metrics.aborts.labels("waiting" if self.trace.first_at is None else "streaming").inc()
            metrics.abort_seconds.observe(monotonic() - exchange.left_at)
        elif not exchange.response_complete:
            self.refuse(Overloaded("The gateway is shutting down.", retry_after=1.0))

    # Small parts

    def _learn(self, model: str, output_tokens: int) -> None:
        admitted = self.trace.admitted
        assert admitted is not None
        self._service.learn(admitted.key.tenant.name, admitted.ask.model, model, output_tokens)

    def _headers(self, cached: Entry | None = None) -> list[bytes]:
        """The lines every answer has, an error's too; `cached` is the entry it is replayed from."""
        trace = self.trace
        dispatch, admitted = trace.dispatch, trace.admitted
        if admitted is not None:
            route, limits = admitted.plan.route.name, admitted.lease.headers
        else:
            route = ""
            limits = [] if trace.key is None else self._service.limiter.headers(trace.key, wall())
        series = None if dispatch is None else dispatch.series
        if cached is not None:
            places = place_lines(cached.served, "cache", route)
        elif series is not None:
            places = series.places
        else:
            places = place_lines("", "", route)
        return [
            b"x-request-id: " + trace.id.encode(),
            *places,
            _FIRST_ATTEMPT if trace.asked == 1 else b"x-tollgate-attempts: %d" % trace.asked,
            b"x-tollgate-cache: " + trace.cache.encode(),
            *limits,
        ]


def _cacheable(admitted: Admitted) -> Mapping[str, Any] | None:
    """The fields of a request whose answer may be kept for others, by its route's policy."""
    request, policy = admitted.request, admitted.plan.route.cache
    if policy.when == "always" or (
        policy.when == "deterministic"
        and request.fields is not None
        and (request.endpoint.deterministic or is_deterministic(request.fields))
    ):
        return request.fields
    return None


def _renamed(body: bytes, engine_model: str, asked: str) -> bytes:
    """A whole answer with its `model` as the client named it."""
    for old, new in renames(engine_model, asked):
        if old in body:
            return body.replace(old, new, 1)
    return body


def _cost_header(nanousd: int) -> bytes:
    return b"x-tollgate-cost-usd: " + billionths(nanousd)


def _no_frame_error(_: Mapping[str, Any]) -> GatewayError | None:
    return None
