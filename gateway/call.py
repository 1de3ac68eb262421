"""One worker asked for one request, up to the point where its answer begins: the last at which another could be."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from dataclasses import replace
from typing import Final, cast

from gateway.clock import monotonic
from gateway.dispatch import Dispatch
from gateway.engines.dialect import Dialect
from gateway.errors import WorkerBroke, WorkerTimeout, WorkerUnreachable
from gateway.fleet.backend import Backend
from gateway.fleet.registry import Fleet
from gateway.protocol.request import Request, multipart_with_model, worker_fields
from gateway.protocol.stream import FrameError, StreamRelay
from gateway.protocol.traceparent import read_traceparent
from gateway.routing.types import Step
from gateway.spelling import dumps
from gateway.table import Timeout
from gateway.trace import Admitted, Trace
from gateway.upstream.connection import Asker
from gateway.upstream.response import Response

MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024
MAX_ERROR_BYTES: Final = 1024 * 1024
MAX_COMMENT_BYTES: Final = 64 * 1024  # held back until the first event, while another worker may still be asked
JSON: Final = b"application/json"
EVENT_STREAM: Final = b"text/event-stream"


class Call:
    """Made when its place in the worker's account is taken; `open` asks the worker.

    After that either `relay` is set, with `first` to pass on and `raw` as it came, and the rest of the stream is still
    to be taken from `response`; or `body` is the whole answer.
    """

    __slots__ = (
        "_admitted",
        "_trace",
        "body",
        "content_type",
        "dispatch",
        "first",
        "raw",
        "relay",
        "response",
        "status",
    )

    def __init__(self, trace: Trace, admitted: Admitted, step: Step) -> None:
        ask = admitted.ask
        trace.asked += 1
        self._trace = trace
        self._admitted = admitted
        unseen = 0 if admitted.request.stream else ask.output_tokens
        self.dispatch = Dispatch(cast("Backend", step.view), step, trace.asked, ask.prompt_tokens, unseen)
        self.response: Response | None = None
        self.relay: StreamRelay | None = None
        self.status = 0
        self.content_type = JSON
        self.first = self.body = b""
        self.raw: list[bytes] = []

    async def open(self, fleet: Fleet, asker: Asker) -> None:
        """Raises what the worker's failure is: an `UpstreamError`, `Overloaded` or `WorkerRefused`. `asker` decides
        whether a worker that falls silent before its answer fails by that.

        However it fails, and when it is cancelled, the worker's connection is given back or closed.
        """
        dispatch, request = self.dispatch, self._admitted.request
        backend = dispatch.backend
        deadlines = self._deadlines()
        try:
            self.response = response = await backend.pool.request(
                request.endpoint.path,
                request.content_type,
                self._body(backend.dialect),
                self._headers(),
                deadlines,
                asker,
            )
            if response.status >= 300:  # a worker has nowhere to redirect to
                raise backend.dialect.error(response.status, await response.read(MAX_ERROR_BYTES))
            self.status = response.status
            self.content_type = response.header(b"content-type") or JSON
            response.headers = []  # none of them is for the client, and an open stream need not hold them
            if self.content_type.startswith(EVENT_STREAM):
                self.relay = relay = relay_of(request, dispatch.step.engine_model, backend.dialect.frame_error)
                await self._first_event(relay, response, dispatch.opened_at + deadlines.first_token)
                dispatch.first_token()
            else:
                body = response.whole(MAX_ANSWER_BYTES)  # in most cases it came with its head
                self.body = await response.read(MAX_ANSWER_BYTES) if body is None else body
        except WorkerUnreachable as error:  # a slow or broken answer is one request's; this is everybody's
            fleet.report_failure(backend, error.message)
            raise
        except BaseException:
            self.abort()
            raise

    @property
    def answered_at(self) -> float:
        """Monotonic seconds of the latest read from the worker."""
        return monotonic() if self.response is None else self.response.read_at

    def abort(self) -> None:
        """Drops the worker's answer, if one is under way, so that its engine stops."""
        if self.response is not None:
            self.response.abort()
            self.response = None

    async def _first_event(self, relay: StreamRelay, response: Response, deadline: float) -> None:
        """Reads until the first event is whole, so that an error in it can still be answered by another worker.

        Raises the error that the first event is, or that ends it.
        """
        data = await response.take()
        self.raw.append(data)
        self.first = relay.feed(data)
        if relay.state == "opening":  # comments, which keep a connection alive and are no token; or half an event
            try:
                async with asyncio.timeout_at(deadline):
                    while data and relay.state == "opening":
                        data = await response.take()
                        self.raw.append(data)
                        self.first += relay.feed(data)
                        if len(self.first) > MAX_COMMENT_BYTES:
                            relay.broke(WorkerBroke("The worker sent nothing but comments."))
            except TimeoutError:
                response.abort()
                raise WorkerTimeout("The worker took too long: gave up waiting for the first token.") from None
            if not data:
                relay.finish()
        if relay.error is not None:
            raise relay.error

    def _deadlines(self) -> Timeout:
        """The route's, of which `total` holds over all attempts, and the request's own for its first token."""
        admitted = self._admitted
        route, most = admitted.plan.route, admitted.ask.preferences.max_ttft_seconds
        timeout = route.timeout
        if not admitted.request.stream:
            timeout = route.document_timeout
            most = None  # when its first token comes is not to be seen
        if self.dispatch.number == 1 and most is None and not self._trace.queued:
            return timeout
        elapsed = self.dispatch.opened_at - self._trace.exchange.arrived
        first_token = timeout.first_token if most is None else min(timeout.first_token, max(0.001, most - elapsed))
        total = max(0.001, timeout.total - elapsed)
        return replace(timeout, connect=min(timeout.connect, first_token), first_token=first_token, total=total)

    def _body(self, dialect: Dialect) -> bytes:
        admitted, step = self._admitted, self.dispatch.step
        request = admitted.request
        if request.fields is None:
            return multipart_with_model(request, step.engine_model)
        fields = worker_fields(request)
        dialect.select(fields, step.engine_model, step.target.adapter)
        if request.endpoint.name in dialect.salted_endpoints:
            # One tenant's prompts must not be guessable from the speed of another's: the engine's prefix cache is kept
            # apart per tenant, whatever salt the client sends itself.
            own = fields.get("cache_salt")
            fields["cache_salt"] = _salt(admitted.key.tenant.name, own if isinstance(own, str) else "")
        return dumps(fields)

    def _headers(self) -> bytes:
        """The lines a worker gets besides the ones its connection needs: enough to find the request again."""
        lines = b"x-request-id: %b\r\n" % self._trace.id.encode()
        header = self._trace.exchange.header(b"traceparent")
        return lines + b"traceparent: %b\r\n" % header if header and read_traceparent(header) else lines


def relay_of(request: Request, engine_model: str, frame_error: FrameError) -> StreamRelay:
    return StreamRelay(
        request.endpoint,
        engine_model=engine_model,
        asked_model=request.model,
        keep_usage=request.wants_usage,
        frame_error=frame_error,
        choices=request.choices,
    )


@functools.lru_cache(maxsize=4096)
def _salt(tenant: str, own: str) -> str:
    return hashlib.blake2b(f"{tenant}\0{own}".encode(), digest_size=16).hexdigest()
