"""What every answer of the control plane gets, as plain ASGI: a request id, and sane HEAD and OPTIONS."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.downstream.ids import new_request_id
from gateway.protocol.endpoints import ENDPOINTS

_REQUEST_ID = "tollgate.request_id"


def request_id(scope: Scope) -> str:
    """The id of this request; made when first asked for."""
    if _REQUEST_ID not in scope:
        scope[_REQUEST_ID] = new_request_id()
    return scope[_REQUEST_ID]


class RequestIds:
    """Puts `x-request-id` on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name = request_id(scope)

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = name
            await send(message)

        await self._app(scope, receive, named)


class Methods:
    """HEAD is GET without the body; OPTIONS says what a path takes."""

    def __init__(self, app: ASGIApp, routes: list[BaseRoute]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope.get("method")
        if method == "HEAD":

            async def headless(message: Message) -> None:
                if message["type"] == "http.response.body":
                    message = {**message, "body": b""}
                await send(message)

            await self._app({**scope, "method": "GET"}, receive, headless)
            return
        if method == "OPTIONS":
            methods = self._methods(scope)
            if methods:
                allow = ", ".join(sorted(methods)).encode()
                await send({"type": "http.response.start", "status": 204, "headers": [(b"allow", allow)]})
                await send({"type": "http.response.body", "body": b""})
                return
        await self._app(scope, receive, send)

    def _methods(self, scope: Scope) -> set[str]:
        """What the path takes; empty when there is no such path."""
        if scope["path"] in ENDPOINTS:
            return {"POST", "OPTIONS"}
        methods = {
            method
            for route in self._routes
            for method in ("GET", "POST", "DELETE")
            if route.matches({**scope, "method": method})[0] is Match.FULL
        }
        return methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set()) if methods else set()
